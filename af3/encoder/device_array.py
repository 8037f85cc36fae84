"""An array in device memory that other libraries can use without a copy (DLPack).

Triton's Python backend, torch and numpy all accept an object with `__dlpack__`. The structs are those of DLPack's C
header, version 0.8; every consumer understands a capsule named `dltensor`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

CPU, CUDA = 1, 2  # DLDeviceType

# dtype → (DLDataTypeCode, bits)
DTYPES = {"float32": (2, 32), "float16": (2, 16), "bfloat16": (4, 16)}


class Memory(Protocol):
    """A block of memory that is freed with its last reference."""

    address: int


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # NULL: row-major
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_ManagedTensor))
_ManagedTensor._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))

_CapsuleDestructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _CapsuleDestructor)
_capsule_is = ctypes.pythonapi.PyCapsule_IsValid
_capsule_is.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)

_NAME = b"dltensor"  # a consumer renames the capsule to used_dltensor

# What consumers still hold, by the address of the struct: the struct, its shape and its memory.
_handed_over: dict[int, tuple[Any, ...]] = {}


@dataclass(frozen=True)
class DeviceArray:
    """A row-major array of `dtype` at `memory`; `device` is (DLDeviceType, id)."""

    memory: Memory
    shape: tuple[int, ...]
    dtype: str
    device: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPES[self.dtype][1] // 8

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, stream: int | None = None) -> object:
        """Return a capsule that keeps the memory alive until its consumer releases it.

        `stream` is not needed: the array is created only after the work that fills it has finished.
        """
        code, bits = DTYPES[self.dtype]
        shape = (ctypes.c_int64 * len(self.shape))(*self.shape)
        tensor = _Tensor(
            self.memory.address,
            _Device(*self.device),
            len(self.shape),
            _DataType(code, bits, 1),
            ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)),
            None,
            0,
        )
        managed = _ManagedTensor(tensor, None, _release)
        address = ctypes.addressof(managed)
        _handed_over[address] = (managed, shape, self.memory)
        return _new_capsule(address, _NAME, _destroy_capsule)


@_Deleter
def _release(managed: Any) -> None:
    """Free an array; the consumer calls this when it is done."""
    del _handed_over[ctypes.addressof(managed.contents)]


@_CapsuleDestructor
def _destroy_capsule(capsule: int) -> None:
    """Release an array that no consumer took; a consumed capsule has another name and its own deleter call."""
    if _capsule_is(capsule, _NAME):
        del _handed_over[_capsule_pointer(capsule, _NAME)]

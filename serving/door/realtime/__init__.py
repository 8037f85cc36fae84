"""Realtime: a conversation by voice over one WebSocket, in the events of OpenAI's Realtime API (docs/realtime.md)."""

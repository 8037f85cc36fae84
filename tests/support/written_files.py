"""python -m tests.support.written_files     what other programs write: tests/support/files/, committed

Needs Debian's ffmpeg, sox (with libsox-fmt-all), lame, opus-tools, flac, vorbis-tools and speex on PATH. The tests read
what is committed, so that they need none of them.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "files"
SOURCE = REPOSITORY / "checkpoints" / "samples" / "digits.wav"
SECONDS = 1.2

FF = "ffmpeg -y -v error -i a.wav"
COPY = "ffmpeg -y -v error -i t.amr -c copy"
# File name → shell command that writes it. a.wav: 44.1 kHz stereo; b.wav: 16 kHz mono; c.wav: 8 kHz mono.
COMMANDS = {
    # MP3: constant, variable and average bit rate; with and without the Xing or Info tag; to a file and to a pipe.
    **{
        f"ff_pipe_{rate}_{kbit}k.mp3": f"{FF} -ar {rate} -ac 1 -b:a {kbit}k -f mp3 pipe:1 | cat > OUT"
        for rate in (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
        for kbit in (32, 64)
    },
    "ff_pipe_8000.mp3": f"{FF} -ar 8000 -ac 1 -b:a 16k -f mp3 pipe:1 | cat > OUT",
    "ff_pipe_vbr.mp3": f"{FF} -q:a 6 -f mp3 pipe:1 | cat > OUT",
    "ff_pipe_abr.mp3": f"{FF} -abr 1 -b:a 56k -f mp3 pipe:1 | cat > OUT",
    "ff_cbr.mp3": f"{FF} -b:a 64k OUT",
    "ff_vbr.mp3": f"{FF} -q:a 7 OUT",
    "ff_noxing.mp3": f"{FF} -b:a 64k -write_xing 0 -id3v2_version 0 OUT",
    "ff_vbr_noxing.mp3": f"{FF} -q:a 7 -write_xing 0 OUT",
    "ff_reservoir_off.mp3": f"{FF} -b:a 64k -reservoir 0 OUT",
    "lame_cbr.mp3": "lame --quiet -b 64 a.wav OUT",
    "lame_vbr.mp3": "lame --quiet -V 7 a.wav OUT",
    "lame_abr.mp3": "lame --quiet --abr 64 a.wav OUT",
    "lame_cbr_notag.mp3": "lame --quiet -t -b 64 a.wav OUT",
    "lame_vbr_notag.mp3": "lame --quiet -t -V 7 a.wav OUT",
    "lame_abr_notag.mp3": "lame --quiet -t --abr 64 a.wav OUT",
    "lame_pipe.mp3": "lame --quiet -V 7 - - < a.wav | cat > OUT",
    "lame_mono_joint.mp3": "lame --quiet -m j -b 64 a.wav OUT",
    "lame_tags.mp3": "lame --quiet -b 48 --tt Title --ta Artist --id3v1-only --pad-id3v2-size 4000 b.wav OUT",
    "lame_id3_pad.mp3": "lame --quiet -b 48 --add-id3v2 --pad-id3v2-size 5000 --tt Title b.wav OUT",
    "lame_mpeg25.mp3": "lame --quiet -b 16 --resample 8 b.wav OUT",
    "lame_8k_8k.mp3": "lame --quiet -b 8 --resample 8 c.wav OUT",
    "lame_crc.mp3": "lame --quiet -p -b 48 b.wav OUT",
    "sox.mp3": "sox a.wav -C 64 OUT",
    "ff.mp2": f"{FF} -b:a 64k -f mp2 OUT",
    "sox.mp2": "sox a.wav -C 64 OUT",
    # What browsers record.
    "ff_opus.webm": f"{FF} -c:a libopus -ar 48000 -b:a 32k OUT",
    "ff_opus_live.webm": f"{FF} -c:a libopus -ar 48000 -b:a 32k -f webm -live 1 pipe:1 | cat > OUT",
    "ff_opus_mono.webm": f"{FF} -c:a libopus -ac 1 -ar 48000 -b:a 24k -cluster_time_limit 300 OUT",
    "ff_vorbis.webm": f"{FF} -c:a libvorbis -b:a 48k OUT",
    "ff_aac.mkv": f"{FF} -c:a aac -b:a 48k OUT",
    "ff_pcm.mka": "ffmpeg -y -v error -i c.wav OUT",
    "ff_flac.mkv": "ffmpeg -y -v error -i c.wav -c:a flac OUT",
    "ff_opus.mp4": f"{FF} -c:a libopus -ar 48000 -b:a 32k -strict -2 OUT",
    "ff_fragmented.mp4": f"{FF} -c:a aac -b:a 48k -movflags frag_keyframe+empty_moov OUT",
    "film.mp4": f"ffmpeg -y -v error -f lavfi -i testsrc=d={SECONDS}:s=32x32:r=5 -i a.wav -c:v mpeg4 -b:a 48k OUT",
    "film.webm": f"ffmpeg -y -v error -f lavfi -i testsrc=d={SECONDS}:s=32x32:r=5 -i a.wav -c:v libvpx -b:v 20k -c:a"
    " libopus -ar 48000 OUT",
    # Phones.
    "ff.m4a": f"{FF} -c:a aac -b:a 48k OUT",
    "ff_faststart.m4a": f"{FF} -c:a aac -b:a 48k -movflags +faststart OUT",
    "ff_mono_22050.m4a": f"{FF} -c:a aac -ac 1 -ar 22050 -b:a 32k OUT",
    "ff_alac.m4a": "ffmpeg -y -v error -i c.wav -c:a alac OUT",
    "ff.mov": f"{FF} -c:a aac -b:a 48k OUT",
    "ff_pcm.mov": "ffmpeg -y -v error -i c.wav -c:a pcm_s16be OUT",
    "ff.3gp": f"{FF} -c:a aac -ac 1 -ar 16000 -b:a 24k OUT",
    "ff_adts.aac": f"{FF} -c:a aac -b:a 48k OUT",
    "ff_adts_pipe.aac": f"{FF} -c:a aac -ac 1 -ar 16000 -b:a 24k -f adts pipe:1 | cat > OUT",
    "ff_adts_id3.aac": f"{FF} -c:a aac -b:a 48k -write_id3v2 1 -metadata title=x -f adts OUT",
    "ff_latm.loas": f"{FF} -c:a aac -b:a 48k -f latm OUT",
    "ff.ts": f"{FF} -c:a aac -b:a 32k OUT",
    "sox.amr": "sox c.wav -t amr-nb OUT",
    "sox_4750.amr": "sox c.wav -C 0 -t amr-nb OUT",
    "ff_pcm.caf": "ffmpeg -y -v error -i c.wav OUT",
    "ff_alac.caf": "ffmpeg -y -v error -i c.wav -c:a alac OUT",
    "ff_opus.caf": f"{FF} -c:a libopus -ar 48000 -b:a 32k OUT",
    "sox.caf": "sox c.wav OUT",
    "ff.aiff": "ffmpeg -y -v error -i c.wav OUT",
    "ff_float.aifc": "ffmpeg -y -v error -i c.wav -c:a pcm_f32be -f aiff OUT",
    "ff_mulaw.aifc": "ffmpeg -y -v error -i c.wav -c:a pcm_mulaw -f aiff OUT",
    "ff_sowt.aifc": "ffmpeg -y -v error -i c.wav -c:a pcm_s16le -f aiff OUT",
    "sox.aiff": "sox c.wav OUT",
    "sox_24.aiff": "sox c.wav -b 24 OUT",
    "sox.aifc": "sox c.wav OUT",
    "ff.wma": f"{FF} -c:a wmav2 -b:a 48k OUT",
    "ff.wv": "ffmpeg -y -v error -i c.wav OUT",
    "ff.ac3": f"{FF} -ar 48000 -b:a 64k OUT",
    "ff.flv": f"{FF} -c:a aac -b:a 48k OUT",
    "ff.avi": f"{FF} -c:a mp3 -b:a 64k OUT",
    "ff_amr.3gp": f"sox c.wav -t amr-nb t.amr && {COPY} OUT",
    "ff_amr_dtx.3gp": f"sox c.wav p.wav pad 1 2 && sox p.wav -C 0 -t amr-nb t.amr && {COPY} OUT",
    "sox_dtx.amr": "sox c.wav p.wav pad 1 2 && sox p.wav -C 0 -t amr-nb OUT",
    "ff_dash.mp4": f"{FF} -c:a aac -b:a 48k -movflags +dash+delay_moov+frag_keyframe OUT",
    "ff_alac_24.m4a": "ffmpeg -y -v error -i c.wav -c:a alac -sample_fmt s32p OUT",
    "ff_flac.mp4": "ffmpeg -y -v error -i c.wav -c:a flac -strict -2 OUT",
    "ff_mp3.mp4": f"{FF} -c:a libmp3lame -b:a 64k OUT",
    "ff_ima.mov": "ffmpeg -y -v error -i c.wav -c:a adpcm_ima_qt OUT",
    "ff_mulaw.mov": "ffmpeg -y -v error -i c.wav -c:a pcm_mulaw OUT",
    "ff_wmav1.wma": f"{FF} -c:a wmav1 -b:a 48k OUT",
    "ff.eac3": f"{FF} -ar 48000 -c:a eac3 -b:a 64k OUT",
    "ff.mpg": f"{FF} -c:a mp2 -b:a 64k OUT",
    "ff_float.caf": "ffmpeg -y -v error -i c.wav -c:a pcm_f32le OUT",
    "ff_alaw.aifc": "ffmpeg -y -v error -i c.wav -c:a pcm_alaw -f aiff OUT",
    "ff_ima.aifc": "ffmpeg -y -v error -i c.wav -c:a adpcm_ima_qt -f aiff OUT",
    # Ogg.
    "opusenc_7_channels.opus": "sox a.wav s.wav remix 1 2 1 2 1 2 1 && opusenc --quiet --bitrate 64 s.wav OUT",
    "ff_opus_5_1.ogg": "sox a.wav s.wav remix 1 2 1 2 1 2 && ffmpeg -y -v error -i s.wav -c:a libopus -b:a 96k OUT",
    "ff_speex.ogg": "ffmpeg -y -v error -i b.wav -c:a libspeex OUT",
    "oggenc.ogg": "oggenc -Q -q 0 -o OUT a.wav",
    "oggenc_managed.ogg": "oggenc -Q -b 48 --managed -o OUT a.wav",
    "ff_vorbis.ogg": f"{FF} -c:a libvorbis -b:a 48k OUT",
    "ff_vorbis_pipe.ogg": f"{FF} -c:a libvorbis -b:a 48k -f ogg pipe:1 | cat > OUT",
    "sox.ogg": "sox a.wav -C 0 OUT",
    "opusenc.opus": "opusenc --quiet --bitrate 32 a.wav OUT",
    "opusenc_speech.opus": "opusenc --quiet --speech --framesize 60 --bitrate 16 b.wav OUT",
    "opusenc_cbr.opus": "opusenc --quiet --hard-cbr --bitrate 24 b.wav OUT",
    "ff_opus.ogg": f"{FF} -c:a libopus -ar 48000 -b:a 32k OUT",
    "ff_opus_voip.oga": "ffmpeg -y -v error -i b.wav -c:a libopus -application voip -b:a 16k OUT",
    "flac.oga": "flac --silent --ogg -o OUT c.wav",
    "ff_flac.ogg": "ffmpeg -y -v error -i c.wav -c:a flac OUT",
    "speexenc_nb.spx": "speexenc --quiet c.wav OUT",
    "speexenc_wb.spx": "speexenc --quiet b.wav OUT",
    "speexenc_vbr.spx": "speexenc --quiet --vbr --dtx b.wav OUT",
    # FLAC.
    "flac.flac": "flac --silent -o OUT c.wav",
    "flac_fast.flac": "flac --silent -0 -o OUT c.wav",
    "flac_pipe.flac": "flac --silent -c - < c.wav | cat > OUT",
    "ff.flac": "ffmpeg -y -v error -i c.wav OUT",
    "ff_pipe.flac": "ffmpeg -y -v error -i c.wav -f flac pipe:1 | cat > OUT",
    "ff_24.flac": "ffmpeg -y -v error -i c.wav -sample_fmt s32 -bits_per_raw_sample 24 OUT",
    "sox.flac": "sox c.wav OUT",
    "sox_pipe.flac": "sox c.wav -t flac - | cat > OUT",
    # WAV, and its relatives.
    "ff.wav": "ffmpeg -y -v error -i c.wav OUT",
    "ff_pipe.wav": "ffmpeg -y -v error -i c.wav -f wav pipe:1 | cat > OUT",
    "ff_bext.wav": "ffmpeg -y -v error -i c.wav -write_bext 1 -metadata description=x OUT",
    "ff_rf64.wav": "ffmpeg -y -v error -i c.wav -rf64 always OUT",
    "ff_rf64_auto.wav": "ffmpeg -y -v error -i c.wav -rf64 auto OUT",
    "ff.w64": "ffmpeg -y -v error -i c.wav OUT",
    "ff.au": "ffmpeg -y -v error -i c.wav OUT",
    "ff.voc": "ffmpeg -y -v error -i c.wav OUT",
    "sox.wav": "sox c.wav OUT",
    "sox_pipe.wav": "cat c.wav | sox -t wav - -t wav - | cat > OUT",
    "sox_ignorelength.wav": "sox c.wav -t wav - | cat > OUT",
    "sox_wavpcm.wav": "sox c.wav -t wavpcm -b 24 OUT",
    "sox.au": "sox c.wav OUT",
    "sox.voc": "sox c.wav OUT",
    "sox.sph": "sox c.wav OUT",
    "sox.w64": "sox c.wav OUT",
    "sox.sf": "sox c.wav -t sf OUT",
    **{
        f"ff_{codec}.wav": f"ffmpeg -y -v error -i c.wav -c:a {codec} OUT"
        for codec in (
            "pcm_u8 pcm_s24le pcm_s32le pcm_s64le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw adpcm_ms adpcm_ima_wav"
        ).split()
    },
    "ff_yamaha.wav": "ffmpeg -y -v error -i c.wav -c:a adpcm_yamaha OUT",
    "ff_24_5_1.wav": "sox c.wav s.wav remix 1 1 1 1 1 1 && ffmpeg -y -v error -i s.wav -t 0.5 -c:a pcm_s24le OUT",
    "ff_gsm.wav": "sox c.wav -e gsm-full-rate OUT",
    "ff_g722.wav": "ffmpeg -y -v error -i b.wav -c:a g722 OUT",
    "ff_g726.wav": "ffmpeg -y -v error -i c.wav -c:a g726 -b:a 32k OUT",
    "ff_mp3.wav": f"{FF} -c:a libmp3lame -b:a 64k OUT",
    "ff_aac.wav": f"{FF} -c:a aac -b:a 48k OUT",
    "ff_g723.wav": "ffmpeg -y -v error -i c.wav -c:a g723_1 -b:a 6300 OUT",
    "ff_swf.wav": "ffmpeg -y -v error -i a.wav -ac 1 -ar 22050 -c:a adpcm_swf OUT",
    # Cameras, discs, and what else ffmpeg and SoX write.
    "ff_pipe.wma": f"{FF} -c:a wmav2 -b:a 48k -f asf pipe:1 | cat > OUT",
    "ff_pipe.avi": f"{FF} -c:a mp3 -b:a 64k -f avi pipe:1 | cat > OUT",
    "ff_float.w64": "ffmpeg -y -v error -i c.wav -c:a pcm_f32le OUT",
    "ff_double.w64": "ffmpeg -y -v error -i c.wav -c:a pcm_f64le OUT",
    "ff_24.w64": "ffmpeg -y -v error -i c.wav -c:a pcm_s24le OUT",
    "sox_float.w64": "sox c.wav -e float -b 32 OUT",
    "ff.m2ts": f"{FF} -ar 48000 -c:a ac3 -b:a 64k -f mpegts -mpegts_m2ts_mode 1 OUT",
    "ff_lpcm.vob": f"{FF} -t 0.4 -ar 48000 -c:a pcm_s16be -f vob OUT",
    "ff.mxf": f"ffmpeg -y -v error -f lavfi -i testsrc=d={SECONDS}:s=64x64:r=25 -i a.wav -ar 48000 -ac 1 -c:v"
    " mpeg2video -c:a pcm_s16le OUT",
    "ff.dts": f"{FF} -ar 48000 -c:a dca -b:a 320k -strict -2 OUT",
    "ff.thd": f"{FF} -ar 48000 -c:a truehd -strict -2 OUT",
    "ff.tta": "ffmpeg -y -v error -i c.wav OUT",
    "ff_tta.mka": "ffmpeg -y -v error -i c.wav -c:a tta OUT",
    "ff.nut": f"{FF} -c:a libmp3lame -b:a 64k OUT",
    "ff.rm": "ffmpeg -y -v error -i c.wav -c:a real_144 OUT",
    "ff.mmf": "ffmpeg -y -v error -i c.wav OUT",
    "ff.ast": "ffmpeg -y -v error -i c.wav OUT",
    "ff.adx": "ffmpeg -y -v error -i c.wav OUT",
    "ff_s302m.ts": f"{FF} -t 0.4 -ar 48000 -c:a s302m -strict -2 OUT",
    "ff.wtv": f"{FF} -b:a 64k OUT",
    "ff.swf": f"{FF} -c:a libmp3lame -b:a 64k OUT",
    "ff_nelly.flv": "ffmpeg -y -v error -i c.wav -c:a nellymoser OUT",
    "sox.sox": "sox c.wav OUT",
    "sox.maud": "sox c.wav OUT",
    "sox.gsm": "sox c.wav OUT",
    "sox.8svx": "sox c.wav -b 8 OUT",
    "sox.avr": "sox c.wav OUT",
    "sox.paf": "sox c.wav -t paf OUT",
    "ff.ircam": "ffmpeg -y -v error -i c.wav -f ircam OUT",
}


def write(folder: Path, name: str, command: str) -> None:
    subprocess.run(["bash", "-o", "pipefail", "-c", command.replace("OUT", name)], cwd=folder, check=True)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trim = f"-t {SECONDS}"
        for source, options in (("a", "-ar 44100 -ac 2"), ("b", "-ar 16000 -ac 1"), ("c", "-ar 8000 -ac 1")):
            write(folder, f"{source}.wav", f"ffmpeg -y -v error -i {SOURCE} {trim} {options} -bitexact OUT")
        for file, command in COMMANDS.items():
            try:
                write(folder, file, command)
            except subprocess.CalledProcessError:
                print(f"{file}: this build of the program does not write it")
                continue
            (FOLDER / file).write_bytes((folder / file).read_bytes())


if __name__ == "__main__":
    main()

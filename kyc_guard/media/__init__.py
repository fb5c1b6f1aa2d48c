"""What a file is and what is decoded of it: pictures, videos and sound, under limits that come before decoding."""

from kyc_guard.media.reading import load_media, media_name, media_sha256, read_audio, read_clip, read_image
from kyc_guard.media.sound import AUDIO_RATE_HZ

__all__ = ["AUDIO_RATE_HZ", "load_media", "media_name", "media_sha256", "read_audio", "read_clip", "read_image"]

"""The sampled frames of a video: container opened, packets demuxed, a plan made of them, and what it wants decoded."""

from __future__ import annotations

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import UnreadableError
from kyc_guard.media.container import REMEDY, container_facts, demux, opened, video_stream
from kyc_guard.media.decoding import Decoder, Stack
from kyc_guard.media.sampling import SamplingPlan, shrunk_size
from kyc_guard.types import Clip


def read_video(data: bytes, sha256: str, sampling: Sampling, limits: Limits, name: str) -> Clip:
    """Decode the sampled frames of a video; see `kyc_guard.media.reading.read_clip`."""
    with opened(data, limits, name, decode_device=sampling.decode_device) as container:
        stream = video_stream(container, name)
        packets = demux(container, stream, limits, name)
        decoder = Decoder(stream, packets, limits, name)
        shown = [i for i in packets.order if not packets.packets[i].is_discard] or list(packets.order)
        plan = SamplingPlan.of(packets.times_s[shown], packets.is_key[shown], sampling)
        spread, burst, motion = (Stack([shown[p] for p in places]) for places in (plan.spread, plan.burst, plan.motion))
        times_s = decoder.fill((spread, burst), motion, sampling.motion_side_px)
        shape = (*decoder.size, 3)
        frames_rgb, timestamps_s = spread.frames(shape, times_s)
        if not len(frames_rgb):
            raise UnreadableError(name, "has no frame that can be decoded", REMEDY)
        burst_rgb, burst_timestamps_s = burst.frames(shape, times_s)
        motion_rgb, motion_timestamps_s = motion.frames((*shrunk_size(*decoder.size, sampling.motion_side_px), 3), times_s)
        findings = {
            "undecodable_packets": decoder.errors,
            "frames_of_other_size": decoder.sizes.total() - decoder.sizes[decoder.size],
        }
        if sampling.decode_device != "cpu":
            findings["decoded_on_gpu"] = int(stream.codec_context.is_hwaccel)
        return Clip(
            frames_rgb=frames_rgb,
            timestamps_s=timestamps_s,
            burst_rgb=burst_rgb,
            burst_timestamps_s=burst_timestamps_s,
            motion_rgb=motion_rgb,
            motion_timestamps_s=motion_timestamps_s,
            is_still=len(shown) == 1,
            facts=container_facts(container, stream, packets, data, sha256=sha256, rotation_deg=decoder.rotation_deg, findings=findings),
        )

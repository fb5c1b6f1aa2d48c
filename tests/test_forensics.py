"""Measures of how a clip was made, each on a clip made to show it and on a counterpart that does not."""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from makers import ONE, box, clip, find_box, patched

from kyc_guard import forensics
from kyc_guard.config import Limits, Sampling
from kyc_guard.media import read_clip
from kyc_guard.media.traces import edit_list, encoder_notes, has_c2pa
from kyc_guard.types import ContainerFacts, Edit, Float64Array, UInt8Array

SIDE_PX = 96


def scene(frames: int, seed: int = 0, *, noise: float = 2.0, side_px: int = SIDE_PX) -> UInt8Array:
    """(T, S, S, 3) of a bright blob wandering over a textured ground, with sensor noise alike at neighbouring pixels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    ground = 90 + 50 * np.sin(9 * x + 5 * random.random()) * np.cos(7 * y + 5 * random.random())
    path = np.cumsum(random.normal(0, 0.02, (frames, 2)), axis=0) + 0.5
    out = np.empty((frames, side_px, side_px, 3), np.uint8)
    for t, (cx, cy) in enumerate(path):
        luma = ground + 70 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.03)
        grain = random.normal(0, noise, (side_px + 1, side_px + 1)) if noise else np.zeros((side_px + 1, side_px + 1))
        luma = luma + (grain[1:, 1:] + grain[:-1, 1:] + grain[1:, :-1] + grain[:-1, :-1]) / 2
        out[t] = luma.clip(0, 255).astype(np.uint8)[..., None]
    return out


def encoded(
    frames: Sequence[UInt8Array] | UInt8Array,
    codec: str = "libx264",
    container: str = "mp4",
    times_ms: Sequence[int] | None = None,
    **options: str,
) -> bytes:
    """The frames at 30 a second, or at the given times."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=30, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, pixels in enumerate(frames):
            frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = (i, Fraction(1, 30)) if times_ms is None else (times_ms[i], Fraction(1, 1000))
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def facts(data: bytes) -> ContainerFacts:
    return read_clip(data, Sampling(frames=1, burst_frames=0), Limits()).facts


def packets(sizes: Sequence[int], key_every: int = 0) -> ContainerFacts:
    """Facts of a 30 Hz stream without B-frames whose packets have these sizes."""
    times_s = np.arange(len(sizes)) / 30
    return ContainerFacts(
        format="mov",
        size_bytes=sum(sizes),
        sha256="",
        packet_times_s=times_s,
        keyframe_times_s=times_s[::key_every] if key_every else times_s[:1],
        packet_sizes_bytes=np.array(sizes, np.int64),
        decode_order=np.arange(len(sizes)),
    )


# ----------------------------------------------------------------------------------------------------------------- traces


@pytest.mark.parametrize(("codec", "says"), [("libx264", "x264"), ("libx265", "x265"), ("mpeg4", None)])
def test_settings_that_an_encoder_wrote_into_the_stream_are_read(codec: str, says: str | None) -> None:
    notes = facts(clip(codec=codec, frames=3)).encoder_notes
    assert (notes == ()) if says is None else (len(notes) == 1 and notes[0].startswith(says))


@given(st.binary(max_size=400), st.sampled_from(["h264", "hevc", "vp8"]))
def test_any_bytes_give_few_short_printable_notes(data: bytes, codec: str) -> None:
    notes = encoder_notes(codec, data, b"\0\0\1\6" + data)
    assert len(notes) <= 4
    assert all(n.isprintable() and len(n) <= 160 for n in notes)


def test_an_edit_list_is_read_with_its_units() -> None:
    mp4 = clip(frames=25)
    assert edit_list(mp4) == (Edit(duration_s=1.0, media_time_s=pytest.approx(0.08), rate=1.0),)
    assert edit_list(patched(mp4, b"elst", 12, ">i", -1))[0].media_time_s is None
    assert edit_list(patched(mp4, b"elst", 16, ">i", 1 << 15))[0].rate == 0.5
    assert edit_list(clip("webm", "libvpx", frames=5)) == ()


def with_edits(mp4: bytes, *edits: tuple[int, int, int]) -> bytes:
    """The edit list of a file whose header comes last replaced by these (ticks of the movie, ticks of the track, 16.16 rate)."""
    moov, trak, edts = (find_box(mp4, kind) for kind in (b"moov", b"trak", b"edts"))
    entries = b"".join(struct.pack(">Iii", *edit) for edit in edits)
    made = box(b"edts", box(b"elst", bytes(4), len(edits).to_bytes(4), entries))
    assert mp4.index(b"mdat") < mp4.index(b"moov"), "offsets into the media would no longer hold"
    return mp4.replace(moov, box(b"moov", moov[8:].replace(trak, box(b"trak", trak[8:].replace(edts, made)))))


def test_an_edit_list_of_many_parts_is_read_in_order() -> None:
    parts = edit_list(with_edits(clip(frames=25), (400, 0, ONE), (200, -1, ONE), (400, 6400, ONE // 2)))
    assert [e.duration_s for e in parts] == [0.4, 0.2, 0.4]
    assert [e.media_time_s for e in parts] == [0.0, None, 0.5]
    assert [e.rate for e in parts] == [1.0, 1.0, 0.5]


@given(st.binary(max_size=300), st.sampled_from([b"moov", b"uuid", b"trak"]))
def test_any_bytes_are_searched_for_boxes_without_harm(data: bytes, kind: bytes) -> None:
    assert isinstance(edit_list(box(kind, data) + data), tuple)
    assert isinstance(has_c2pa(box(kind, data) + data), bool)


def test_a_c2pa_box_is_seen_and_another_uuid_box_is_not() -> None:
    mp4 = clip(frames=3)
    manifest = box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481"), bytes(4), b"manifest\0", bytes(8))
    assert facts(mp4 + manifest).has_c2pa
    assert not facts(mp4 + box(b"uuid", bytes(16))).has_c2pa


# ------------------------------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("times_s", "error_s"),
    [
        (np.arange(30) / 30, 0.0),
        (np.round(np.arange(300) / 30, 3), 0.0005),
        (np.arange(30) / 30 + np.tile([0, 0.004], 15), 0.002),
    ],
)
def test_the_distance_from_an_even_clock_is_measured(times_s: Float64Array, error_s: float) -> None:
    assert forensics.grid_error_s(times_s) == pytest.approx(error_s, abs=2e-4)


@pytest.mark.parametrize("times_s", [np.arange(7) / 30, np.array([0, 1, np.nan, 3, 4, 5, 6, 7, 8.0])])
def test_few_or_missing_times_have_no_clock(times_s: Float64Array) -> None:
    assert forensics.grid_error_s(times_s) is None


def test_missing_and_double_times_are_counted() -> None:
    assert forensics.faulty_times(np.array([0, 0.1, 0.1, np.nan, 0.3]), 0.0) == 2
    assert forensics.faulty_times(np.arange(5) / 30, 0.0005) == 0


def test_times_closer_than_any_cameras_are_counted() -> None:
    crowded_s = np.concatenate([np.arange(5) / 30, 1 + 1e-4 * np.arange(4)])
    assert forensics.faulty_times(crowded_s, 0.0005) == 3
    assert forensics.faulty_times(crowded_s, 0.0) == 0
    assert forensics.faulty_times(np.arange(200) / 240, 0.0005) == 0


def test_what_the_reader_met_is_counted_and_a_file_cannot_say_it_for_itself() -> None:
    whole = clip("matroska", frames=5, tags={"found.missing_frames": "many", "FOUND.MISSING_FRAMES": "7"})
    assert forensics.found(facts(whole), "missing_frames") == 0
    assert forensics.found(dataclasses.replace(facts(whole), tags={"found.missing_frames": "3"}), "missing_frames") == 3


def test_the_longest_gap_is_measured_in_seconds_and_steps() -> None:
    assert forensics.longest_gap(np.array([0, 0.1, 0.2, 0.3, 1.3, 1.4])) == (pytest.approx(1.0), pytest.approx(10.0))
    assert forensics.longest_gap(np.array([np.nan])) == (0.0, 0.0)


def test_sound_that_ends_with_the_picture_is_told_from_sound_that_does_not() -> None:
    honest, replaced = forensics.sound_drift(facts(clip(frames=50, tone_s=2.0))), forensics.sound_drift(facts(clip(frames=50, tone_s=5.0)))
    assert honest is not None
    assert replaced is not None
    assert honest[0] < 0.1
    assert replaced[0] == pytest.approx(3.0, abs=0.1)
    assert forensics.sound_drift(facts(clip(frames=50))) is None


def test_a_stretched_sound_clock_drifts() -> None:
    starts_s = np.arange(100) * 0.0213
    base = packets([100] * 65)
    stretched = ContainerFacts(
        "mov", 0, "", packet_times_s=base.packet_times_s, sound_times_s=starts_s * 1.05, sound_lengths_s=np.full(100, 0.0213)
    )
    drift = forensics.sound_drift(stretched)
    assert drift is not None
    assert drift[1] == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize(
    ("tags", "year"),
    [
        ({"creation_time": "2026-03-01T10:00:00.000000Z"}, 2026),
        ({"stream0.creation_time": "2025-03-01T10:00:00"}, 2025),
        ({"creation_time": "1904-01-01T00:00:00Z"}, None),
        ({"creation_time": "yesterday"}, None),
        ({}, None),
    ],
)
def test_creation_times_are_read_unless_they_are_a_clocks_zero(tags: dict[str, str], year: int | None) -> None:
    created = forensics.created_at(ContainerFacts("mov", 0, "", tags=tags))
    assert (created.year if created else None) == year
    assert created is None or created.tzinfo is not None


# ---------------------------------------------------------------------------------------------------------------- packets


def test_software_is_named_and_told_apart() -> None:
    libraries, studios = forensics.software_names(facts(clip(tags={"comment": "Recorded with OBS Studio"})))
    assert any("Lavf" in name for name in libraries)
    assert any("x264" in name for name in libraries)
    assert studios == ("Recorded with OBS Studio",)
    phone = ContainerFacts("mov", 0, "", tags={"com.apple.quicktime.software": "17.4.1", "com.apple.quicktime.make": "Apple"})
    assert forensics.software_names(phone) == ((), ())


def test_runs_of_b_frames_are_counted_in_presentation_order() -> None:
    # Decoded I P B B P B, shown I B B P B P.
    assert forensics.b_runs(np.array([0, 2, 3, 1, 5, 4])) == (2, 1)
    assert forensics.b_runs(np.arange(6)) == ()
    assert forensics.b_runs(np.empty(0, np.int64)) == ()


def test_x264_mixes_runs_of_b_frames_and_hardware_settings_do_not() -> None:
    frames, random = scene(90, 1), np.random.default_rng(0)
    for t in (10, 11, 20, 33, 34, 35, 50, 64):
        frames[t] = random.integers(0, 255, frames[t].shape)
    mixed, none = facts(encoded(frames)), facts(encoded(frames, bf="0"))
    assert mixed.decode_order is not None
    assert none.decode_order is not None
    assert set(forensics.b_runs(mixed.decode_order)) == {1, 2, 3}
    assert forensics.b_runs(none.decode_order) == ()


def test_a_keyframe_off_the_grid_is_noticed() -> None:
    assert forensics.off_grid_keys(np.array([0, 30, 60, 90, 120, 150])) == 0
    assert forensics.off_grid_keys(np.array([0, 30, 60, 77, 107, 137])) == 1
    assert forensics.off_grid_keys(np.array([0, 30, 37])) == 0


@pytest.mark.parametrize("options", [{"bf": "0"}, {"preset": "veryfast", "bf": "0", "crf": "26"}])
def test_a_looped_clip_repeats_its_costs_even_re_encoded(options: dict[str, str]) -> None:
    once = scene(45, 4)
    loop = forensics.size_loop(facts(encoded(np.concatenate([once] * 3), **options)))
    assert loop is not None
    assert loop.period == 45
    assert loop.correlation + loop.contrast > 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_clip_without_a_loop_does_not(seed: int) -> None:
    loop = forensics.size_loop(facts(encoded(scene(135, 10 + seed), bf="0")))
    assert loop is not None
    assert loop.correlation + loop.contrast < 1.0


def test_costs_left_by_earlier_keyframes_form_a_comb() -> None:
    random = np.random.default_rng(0)
    sizes = random.normal(1000, 40, 240)
    honest = forensics.former_keyframes(packets([int(s) for s in sizes]))
    sizes[5::12] *= 1.3
    twice = forensics.former_keyframes(packets([int(s) for s in sizes]))
    assert honest is not None
    assert twice is not None
    assert honest.strength < 4
    assert twice.strength > 6
    assert twice.period == 12
    assert forensics.former_keyframes(packets([100] * 20)) is None


@given(arrays(np.int64, st.integers(2, 200), elements=st.integers(0, 10**6)), st.integers(0, 60))
def test_any_packet_sizes_are_measured(sizes: Any, key_every: int) -> None:
    given_facts = packets([int(s) for s in sizes], key_every)
    loop, comb = forensics.size_loop(given_facts), forensics.former_keyframes(given_facts)
    assert loop is None or -1.001 <= loop.correlation <= 1.001
    assert comb is None or np.isfinite(comb.strength)


# ----------------------------------------------------------------------------------------------------------------- frames


def test_repeated_pictures_differ_by_nothing() -> None:
    frames = scene(6)
    frames[3] = frames[2]
    differences = forensics.neighbour_differences(forensics.luma_of(frames))
    assert differences[2] == 0.0
    assert (np.delete(differences, 2) > 0.5).all()
    assert forensics.neighbour_differences(forensics.luma_of(frames[:1])).size == 0


def test_repetitions_are_seen_through_coding_noise_and_stopping_is_not_one() -> None:
    doubled = forensics.repeats(np.array([0.2, 2.0, 0.3, 2.1, 0.2]), 0.02)
    assert doubled.tolist() == [True, False, True, False, True]
    assert not forensics.repeats(np.array([2.0, 1.0, 0.4, 0.1, 0.05, 0.05]), 0.02).any()
    assert forensics.repeats(np.array([0.0, 0.0]), 0.02).all()
    assert forensics.repeats(np.empty(0), 0.02).size == 0


def noise_of(frames_rgb: UInt8Array) -> forensics.Noise | None:
    return forensics.temporal_noise(forensics.luma_of(frames_rgb))


def test_a_sensors_noise_is_alike_at_neighbours_and_added_noise_is_not() -> None:
    still = np.repeat(scene(1, noise=0), 8, axis=0)
    white = np.random.default_rng(0).normal(0, 3, (8, SIDE_PX, SIDE_PX, 1))
    added = noise_of((still + white).clip(0, 255).astype(np.uint8))
    camera = noise_of(np.stack([scene(1, 0, noise=n)[0] for n in np.linspace(3, 3.001, 8)]))
    none = noise_of(still)
    assert added is not None
    assert none is not None
    assert camera is not None
    assert added.sigma == pytest.approx(3, rel=0.2)
    assert abs(added.likeness) < 0.1
    assert none.sigma == 0.0
    assert noise_of(still[:2]) is None


def test_noise_of_a_wandering_scene_is_measured_where_nothing_moves() -> None:
    noise = noise_of(scene(8, noise=3.0))
    assert noise is not None
    assert noise.sigma == pytest.approx(3.0, rel=0.3)
    assert noise.likeness > 0.3


def test_prints_survive_re_encoding_and_scaling_but_not_another_scene() -> None:
    frames = scene(60, 5)
    ours = read_clip(encoded(frames), Sampling(), Limits())
    copy = read_clip(encoded(frames[5:, ::2, ::2], crf="32"), Sampling(), Limits())
    other = read_clip(encoded(scene(60, 6)), Sampling(), Limits())
    first, second, third = (forensics.frame_prints(c.frames_rgb) for c in (ours, copy, other))
    assert forensics.clip_distance(first, second) < 0.10
    assert forensics.clip_distance(first, third) > 0.15
    assert forensics.clip_distance(first, first[:0]) == 1.0


def test_a_cut_to_another_scene_is_found_and_movement_is_not_one() -> None:
    moving = forensics.frame_prints(scene(12, 7))
    cut = np.concatenate([moving[:6], forensics.frame_prints(scene(6, 8))])
    assert forensics.cut_contrast(cut)[0] == 6
    assert forensics.cut_contrast(cut)[1] > 0.2
    assert forensics.cut_contrast(moving)[1] < 0.1
    assert forensics.cut_contrast(moving[:5]) == (0, 0.0)

import numpy as np
import pytest

from cae.tasks.image_codecs import (
    available_codecs,
    count_jpeg_header_bytes,
    count_webp_header_bytes,
    encode_and_decode,
)


def test_header_bytes_are_all_but_the_compressed_data():
    jpeg = b"\xff\xd8" + b"\xff\xe0\x00\x04ab" + b"\xff\xda\x00\x03c" + b"12345" + b"\xff\xd9"
    assert count_jpeg_header_bytes(jpeg) == len(jpeg) - len("12345")
    frame = b"tag" + b"sta" + b"size" + b"123"
    webp = b"RIFF\x1a\x00\x00\x00WEBP" + b"VP8 \x0d\x00\x00\x00" + frame + b"\x00"
    assert count_webp_header_bytes(webp) == len(webp) - len("123")


@pytest.mark.parametrize("channels", [1, 3])
def test_constant_image_takes_headers_only(channels):
    images = np.full([2, 16, 16, channels], 128, np.uint8)
    for codec in available_codecs():
        encoded = encode_and_decode(images, codec, quality=50)
        assert np.abs(encoded.decoded.astype(int) - 128).max() <= 2
        assert (encoded.num_bytes - encoded.num_header_bytes < 20).all()
    encoded = encode_and_decode(images, "JPEG", quality=50)
    # Four blocks of brightness, each the codes 00 (as before) and 1010 (end of block): 24 bits. And one of either
    # chrominance, which have half the resolution: 00 and 00, twice: 8 bits.
    assert (encoded.num_bytes - encoded.num_header_bytes).tolist() == [3 if channels == 1 else 4] * 2
    assert (encoded.decoded == 128).all()


def test_quality_reduces_the_error_and_takes_bytes(random):
    images = np.cumsum(random.integers(0, 20, [3, 32, 12, 3]), axis=2).clip(0, 255).astype(np.uint8)
    for codec in available_codecs():
        low, high = (encode_and_decode(images, codec, quality) for quality in (5, 90))
        errors = [np.square(each.decoded.astype(float) - images).mean(axis=(1, 2, 3)) for each in (low, high)]
        assert (errors[1] < errors[0]).all() and (high.num_bytes > low.num_bytes).all()

//! A look at an image's bytes before they are decoded, for what the decoders let pass.

/// Bytes of pixels that one byte of a file can stand for, with room to spare: deflate gives 1032 at most; a JPEG's block of
/// 64 samples takes a bit, so that eight of them give 1365 where colours are four times as coarse each way.
const MOST_OF_A_BYTE: u64 = 4096;

/// Pixels of files that are so small that it does not matter.
const ALWAYS: u64 = 1 << 20;

/// Whether these are the bytes of a JPEG.
pub fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8])
}

/// Refuses what a decoder would fill up or fall over.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    if is_jpeg(bytes) && !has_end(bytes) {
        return Err("the file ends in the middle of the image".into());
    }
    // zune-jpeg 0.5 has room for the brightness alone, and panics where colours are finer.
    if is_jpeg(bytes) && frames(bytes).any(finer_than_the_first) {
        return Err("its colours are finer than its brightness, which is not read".into());
    }
    // png 0.18 takes the colours in fours of bytes, and panics where some are left over.
    match chunks(bytes).find(|(kind, length)| kind == b"PLTE" && length % 3 != 0) {
        Some((_, length)) => Err(format!("its palette of {length} bytes is no list of colours, which have three each")),
        None => Ok(()),
    }
}

/// Refuses an image of so many bytes of pixels that this file is too short to hold them.
pub fn check_size(bytes: &[u8], unpacked: u64) -> Result<(), String> {
    let most = (bytes.len() as u64).saturating_mul(MOST_OF_A_BYTE).max(ALWAYS);
    if unpacked <= most {
        return Ok(());
    }
    Err(format!("the image is to take {unpacked} bytes, which a file of {} bytes cannot hold", bytes.len()))
}

/// Whether an end of image follows the last beginning of pixels: the decoder would fill up what is missing.
fn has_end(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xda) < last(0xd9)
}

/// The headers of a JPEG's frames: precision, height, width, number of components, and three bytes for each.
fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            // Behind pixels, what follows 0xff may be no marker.
            let at = rest.windows(2).position(|pair| matches!(pair, [0xff, 0x02..=0xcf | 0xda..=0xfe]))?;
            let (&[_, marker], after) = rest.get(at..)?.split_first_chunk()?;
            let (length, _) = after.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let segment = after.get(2..length.min(after.len()));
            rest = after.get(length.min(after.len())..).unwrap_or_default();
            // All others of these define tables.
            if let (0xc0..=0xcf, false, Some(segment)) = (marker, matches!(marker, 0xc4 | 0xc8 | 0xcc), segment) {
                return Some(segment);
            }
        }
    })
}

/// Whether a component has more samples along an axis than the first one.
fn finer_than_the_first(frame: &[u8]) -> bool {
    let samples = frame.get(6..).unwrap_or_default().chunks_exact(3).filter_map(|component| component.get(1));
    let mut samples = samples.map(|&both| (both >> 4, both & 15));
    samples.next().is_some_and(|(across, down)| samples.any(|(x, y)| x > across || y > down))
}

/// Kinds and lengths of a PNG's chunks; none of another file.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], usize)> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n");
    std::iter::from_fn(move || {
        let (length, after) = rest?.split_first_chunk()?;
        let (kind, after) = after.split_first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        // A checksum follows.
        rest = after.get(length..).and_then(|after| after.get(4..));
        Some((*kind, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_walked_to_the_end_of_the_file() {
        let chunk =
            |kind: &[u8; 4], data: &[u8]| [&(data.len() as u32).to_be_bytes(), kind.as_slice(), data, &[0; 4]].concat();
        let palette = |length: usize| {
            let parts = [chunk(b"IHDR", &[0; 13]), chunk(b"PLTE", &vec![0; length]), chunk(b"IDAT", b"PLTE")];
            [b"\x89PNG\r\n\x1a\n".as_slice(), &parts.concat()].concat()
        };
        let kinds: Vec<_> = chunks(&palette(6)).collect();
        assert_eq!(kinds, [(*b"IHDR", 13), (*b"PLTE", 6), (*b"IDAT", 4)]);
        assert_eq!(check(&palette(768)), Ok(()));
        for length in [1, 2, 131] {
            let message = check(&palette(length)).unwrap_err();
            assert!(message.contains(&format!("palette of {length} bytes")), "{message}");
        }
        // A chunk that claims more than there is, is the last; what is no PNG has none.
        assert_eq!(chunks(&palette(6)[..50]).count(), 2);
        assert_eq!(chunks(b"PLTE").count(), 0);
    }

    #[test]
    fn a_frame_whose_colours_are_finer_is_found_wherever_it_is() {
        let file = |sampling: [u8; 3]| {
            let components = sampling.iter().zip(1..).flat_map(|(&both, id)| [id, both, 0]);
            let frame: Vec<u8> = [8, 0, 9, 0, 7, 3].into_iter().chain(components).collect();
            let header = [&[0xff, 0xc0, 0, 17], frame.as_slice()].concat();
            // A table that holds what looks like a frame, and pixels with stuffing before the frame.
            let table = [0xff, 0xc4, 0, 8, 0xff, 0xc0, 0, 17, 9, 9];
            let pixels = [0xff, 0xda, 0, 2, 5, 0xff, 0, 0xff, 0xd0, 6];
            [&[0xff, 0xd8], table.as_slice(), &pixels, &header, &[0xff, 0xda, 0xff, 0xd9]].concat()
        };
        assert_eq!(frames(&file([0x22, 0x11, 0x11])).count(), 1);
        for sampling in [[0x11; 3], [0x22, 0x11, 0x11], [0x21, 0x11, 0x21]] {
            assert_eq!(check(&file(sampling)), Ok(()), "{sampling:x?}");
        }
        for sampling in [[0x11, 0x22, 0x11], [0x21, 0x11, 0x12], [0x12, 0x21, 0x11]] {
            assert!(check(&file(sampling)).unwrap_err().contains("finer"), "{sampling:x?}");
        }
        // Cut anywhere, it is no panic.
        let whole = file([0x11, 0x22, 0x11]);
        (0..whole.len()).for_each(|end| drop(check(&whole[..end])));
    }

    #[test]
    fn few_bytes_hold_few_pixels() {
        assert_eq!(check_size(&[0; 10], 1 << 20), Ok(()));
        assert_eq!(check_size(&[0; 1000], 4_096_000), Ok(()));
        let message = check_size(&[0; 1000], 4_096_001).unwrap_err();
        assert!(message.contains("a file of 1000 bytes cannot hold"), "{message}");
    }
}

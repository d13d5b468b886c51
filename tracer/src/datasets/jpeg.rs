//! Finds the end of a JPEG file's picture by its markers.

/// The marker codes that a walk over the file must distinguish (ITU-T T.81, table B.1).
mod marker {
    pub const TEMPORARY: u8 = 0x01;
    pub const RESTART_FIRST: u8 = 0xd0;
    pub const RESTART_LAST: u8 = 0xd7;
    pub const START_OF_IMAGE: u8 = 0xd8;
    pub const END_OF_IMAGE: u8 = 0xd9;
}

/// Returns a JPEG file up to its end marker; `None` if the file is truncated.
///
/// Segments are skipped by their lengths, so end markers within them do not count, such as that of
/// a thumbnail. Data after the end marker, such as a video, does not belong to the picture.
pub(super) fn find_picture(bytes: &[u8]) -> Option<&[u8]> {
    let mut position = 0;
    loop {
        let (code, after) = next_marker(bytes, position)?;
        position = match code {
            marker::END_OF_IMAGE => return Some(&bytes[..after]),
            // These markers have no segment.
            marker::TEMPORARY | marker::START_OF_IMAGE | marker::RESTART_FIRST..=marker::RESTART_LAST => after,
            _ => {
                let length = bytes.get(after..after + 2)?;
                after + usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
        };
    }
}

/// Finds the next marker from a position on; returns its code and the position after it.
///
/// Skips the coded data of a scan, in which FF 00 stands for a byte FF, and any fill bytes FF
/// before the code.
fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let mut position = from;
    loop {
        position += bytes.get(position..)?.iter().position(|&byte| byte == 0xff)?;
        position += bytes[position..].iter().position(|&byte| byte != 0xff)?;
        let code = bytes[position];
        position += 1;
        if code != 0 {
            return Some((code, position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a segment with its marker and length.
    fn segment(code: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() + 2) as u16;
        [&[0xff, code], length.to_be_bytes().as_slice(), content].concat()
    }

    const START: &[u8] = &[0xff, 0xd8];
    const END: &[u8] = &[0xff, 0xd9];

    /// Builds a picture with a thumbnail, restart markers, a stuffed byte, two scans and fill
    /// bytes.
    fn whole() -> Vec<u8> {
        let thumbnail = [START, &segment(0xda, &[1]), &[7, 7], END].concat();
        [
            START,
            &segment(0xe1, &thumbnail),
            &[0xff, 0xff, 0xff],
            &segment(0xc2, &[8, 0, 1, 0, 1]),
            &segment(0xda, &[1, 0xff, 0xd9]),
            &[1, 2, 0xff, 0x00, 3, 0xff, 0xd0, 4, 0xff, 0xd7, 5],
            &segment(0xc4, &[0xff, 0xd9]),
            &segment(0xda, &[2]),
            &[6, 0xff, 0xff],
            END,
        ]
        .concat()
    }

    #[test]
    fn the_picture_ends_at_its_own_end_marker() {
        let whole = whole();
        assert_eq!(find_picture(&whole), Some(whole.as_slice()));
        let trailers: [&[u8]; 5] = [&[0], &[0xff, 0xda], &[0xff, 0xda, 0xff, 0xd9], &[0xff], &whole];
        for trailer in trailers {
            assert_eq!(find_picture(&[&whole, trailer].concat()), Some(whole.as_slice()), "{trailer:?}");
        }
    }

    #[test]
    fn a_truncated_file_has_no_picture() {
        let whole = whole();
        for length in 0..whole.len() {
            assert_eq!(find_picture(&whole[..length]), None, "{length} bytes");
        }
    }
}

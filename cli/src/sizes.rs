//! Sizes with units.

use bytesize::ByteSize;

/// Parses a number of bytes, such as `500MB`, `2GiB` or `1000000`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = |_| format!("{text:?} is not a size such as 500MB or 2GiB");
    text.parse::<ByteSize>().map(|size| size.as_u64()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_and_nonsense_is_refused() {
        let sizes = ["7", "500MB", "2GiB", "1.5 kB", "0"].map(|text| parse_bytes(text).unwrap());
        assert_eq!(sizes, [7, 500_000_000, 2 << 30, 1500, 0]);
        for wrong in ["", "MB", "5 apples", "-1", "inf"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}

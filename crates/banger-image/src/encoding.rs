//! Little-endian fields in byte buffers, without lossy casts.

/// Writes `value` at `offset`.
pub(crate) fn put_u8(buffer: &mut [u8], offset: usize, value: u8) {
    buffer[offset] = value;
}

/// Writes `value` at `offset`, little-endian.
pub(crate) fn put_u16(buffer: &mut [u8], offset: usize, value: u16) {
    buffer[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
}

/// Writes `value` at `offset`, little-endian.
pub(crate) fn put_u32(buffer: &mut [u8], offset: usize, value: u32) {
    buffer[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Returns the low 16 bits.
pub(crate) const fn low_16(value: u32) -> u16 {
    let bytes = value.to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// Returns the high 16 bits.
pub(crate) const fn high_16(value: u32) -> u16 {
    low_16(value >> 16)
}

/// Returns the low 32 bits.
pub(crate) const fn low_32(value: u64) -> u32 {
    let bytes = value.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Returns the high 32 bits.
pub(crate) const fn high_32(value: u64) -> u32 {
    low_32(value >> 32)
}

/// Returns a count as 64 bits; `usize` never has more here.
pub(crate) const fn count(value: usize) -> u64 {
    value as u64
}

/// Returns bytes as text for a message: what is not UTF-8 or not printable is escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let cut = &bytes[..bytes.len().min(LONGEST)];
    let mut text = String::with_capacity(cut.len());
    for chunk in cut.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(|c| {
            let escape = c.is_control().then(|| c.escape_default());
            let plain = if escape.is_none() { Some(c) } else { None };
            escape.into_iter().flatten().chain(plain)
        }));
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    if bytes.len() > LONGEST {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_printable() {
        assert_eq!(printable("ä/b\n\u{1b}".as_bytes()), "ä/b\\n\\u{1b}");
        assert_eq!(printable(b"a\xff\0"), "a\\xff\\u{0}");
        assert_eq!(printable(&[b'a'; 400]).chars().count(), 301);
    }

    #[test]
    fn halves_are_halves() {
        assert_eq!((low_16(0x1234_5678), high_16(0x1234_5678)), (0x5678, 0x1234));
        assert_eq!((low_32(0x1_0000_0002), high_32(0x1_0000_0002)), (2, 1));
    }
}

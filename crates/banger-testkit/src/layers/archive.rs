//! Archives made entry by entry, with whatever names and numbers.

use tar::{Builder, EntryType, Header};

/// A header with telling values.
pub fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o4751);
    header.set_uid(1234);
    header.set_gid(5678);
    header.set_mtime(1_600_000_000);
    header.set_size(size);
    header
}

/// Adds an entry whose name is taken as it is.
pub fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) {
    let mut header = header(kind, content.len() as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    if kind == EntryType::Char || kind == EntryType::Block {
        header.set_device_major(259).expect("write an archive");
        header.set_device_minor(7).expect("write an archive");
    }
    header.set_cksum();
    builder.append(&header, content).expect("write an archive");
}

/// Returns an archive.
pub fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().expect("write an archive")
}

/// Adds a PAX header with these records.
pub fn add_pax(builder: &mut Builder<Vec<u8>>, records: &[(&[u8], &[u8])]) {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = [b" ", *key, b"=", value, b"\n"].concat();
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        data.extend_from_slice(length.to_string().as_bytes());
        data.extend_from_slice(&rest);
    }
    add(builder, EntryType::XHeader, b"pax", b"", &data);
}

/// Returns bytes that repeat nowhere and are never a zero block.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

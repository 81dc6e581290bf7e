//! The ELF image inside a bzImage: some VMMs boot nothing else.
//!
//! Source: Linux, Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header").

use std::io::{self, Read};

/// Number of 512-byte sectors of the setup code, after the first sector; 0 stands for 4.
const SETUP_SECTORS: usize = 0x1f1;
/// `HdrS`.
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
/// Version of the boot protocol: major in the high byte.
const PROTOCOL: usize = 0x206;
/// The first one whose header tells where the payload is.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x0208;
/// Where the text is that says its version, 512 bytes less.
const VERSION: usize = 0x20e;
/// Where the payload begins, from the protected-mode code on.
const PAYLOAD_OFFSET: usize = 0x248;
/// How long it is.
const PAYLOAD_LENGTH: usize = 0x24c;
/// A kernel is at most this long, bytes: what claims more is none.
pub(super) const LIMIT: u64 = 512 << 20;
/// The beginning of every ELF file.
const ELF: &[u8] = b"\x7fELF";

/// Why there is no ELF image to be had.
#[derive(Debug, thiserror::Error)]
pub enum VmlinuxError {
    /// The file is no bzImage.
    #[error("it is no kernel image as x86 boots it (bzImage)")]
    NotAnImage,
    /// With everything that a debugger wants, perhaps.
    #[error("it has more than {limit} bytes")]
    TooLarge {
        /// Most bytes.
        limit: u64,
    },
    /// Older than 2008.
    #[error("its boot protocol {}.{} does not tell where the kernel is; 2.8 does", .0 >> 8, .0 & 0xff)]
    Protocol(u16),
    /// bzip2, lzma, lzo, or something new.
    #[error("it is compressed in a way that is not known here (it begins with {0:02x?})")]
    Compression([u8; 4]),
    /// The payload is damaged.
    #[error("it cannot be decompressed ({format})")]
    Decompression {
        /// The format.
        format: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The payload is something else.
    #[error("what is in it is no ELF file")]
    NotElf,
    /// The payload has another length than its last bytes say.
    #[error("what is in it has {found} bytes, and should have {expected}")]
    Length {
        /// What came out.
        found: u64,
        /// What was announced.
        expected: u32,
    },
}

/// Returns the ELF image of a kernel: what is in a bzImage, or the file itself if it is one.
///
/// # Errors
/// [`VmlinuxError`] says what is wrong with the file.
pub(super) fn extract(image: &[u8]) -> Result<Vec<u8>, VmlinuxError> {
    if is_elf(image) {
        return Ok(image.to_vec());
    }
    let payload = payload(image)?;
    let Opened { format, content, announced } = open(payload)?;
    let mut kernel = Vec::new();
    let failed = |source| VmlinuxError::Decompression { format, source };
    content.take(LIMIT + 1).read_to_end(&mut kernel).map_err(failed)?;
    let found = kernel.len() as u64;
    if let Some(expected) = announced.filter(|expected| u64::from(*expected) != found) {
        return Err(VmlinuxError::Length { found, expected });
    }
    if kernel.starts_with(ELF) { Ok(kernel) } else { Err(VmlinuxError::NotElf) }
}

/// Returns whether a kernel is an ELF file itself.
pub(super) fn is_elf(image: &[u8]) -> bool {
    image.starts_with(ELF)
}

/// Returns the release that a bzImage says it is of: the first word of the text at `kernel_version` (boot.rst).
pub(super) fn release(image: &[u8]) -> Option<String> {
    let (at, magic) = MAGIC;
    (image.get(at..at + magic.len())? == magic).then_some(())?;
    let offset = u16::from_le_bytes(image.get(VERSION..VERSION + 2)?.try_into().ok()?);
    (offset != 0).then_some(())?;
    // A directory's name: no release is longer than 64 bytes (uname(2)).
    let text = image.get(usize::from(offset) + 512..)?;
    let release = text.iter().take(64).take_while(|byte| byte.is_ascii_graphic() && **byte != b'/');
    let release: String = release.map(|byte| char::from(*byte)).collect();
    (!release.is_empty()).then_some(release)
}

fn payload(image: &[u8]) -> Result<&[u8], VmlinuxError> {
    let number =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?)) };
    let read = || {
        let (at, magic) = MAGIC;
        (image.get(at..at + magic.len())? == magic).then_some(())?;
        let protocol = u16::from_le_bytes(image.get(PROTOCOL..PROTOCOL + 2)?.try_into().ok()?);
        Some((protocol, image[SETUP_SECTORS], number(PAYLOAD_OFFSET)?, number(PAYLOAD_LENGTH)?))
    };
    let (protocol, sectors, offset, length) = read().ok_or(VmlinuxError::NotAnImage)?;
    if protocol < PROTOCOL_WITH_PAYLOAD {
        return Err(VmlinuxError::Protocol(protocol));
    }
    let sectors = if sectors == 0 { 4 } else { usize::from(sectors) };
    let begin = (sectors + 1) * 512 + offset as usize;
    image.get(begin..begin + length as usize).ok_or(VmlinuxError::NotAnImage)
}

/// A payload, and what decompresses it.
struct Opened<'a> {
    format: &'static str,
    content: Box<dyn Read + 'a>,
    /// How long the result is, as far as that was announced: the kernel's build appends it to what does not say so itself
    /// (Linux, scripts/Makefile.lib, `size_append`).
    announced: Option<u32>,
}

fn open(payload: &[u8]) -> Result<Opened<'_>, VmlinuxError> {
    let opened = |format, content, announced| Opened { format, content, announced };
    let begin: [u8; 4] = payload.first_chunk().copied().ok_or(VmlinuxError::NotElf)?;
    let split = || {
        let (compressed, length) = payload.split_last_chunk::<4>().unwrap_or((payload, &[0; 4]));
        (compressed, Some(u32::from_le_bytes(*length)))
    };
    Ok(match begin {
        [0x1f, 0x8b, ..] => opened("gzip", Box::new(flate2::read::GzDecoder::new(payload)), None),
        [0x02, 0x21, 0x4c, 0x18] => {
            let (compressed, length) = split();
            opened("lz4", Box::new(lz4_flex::frame::FrameDecoder::new(compressed)), length)
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let (compressed, length) = split();
            let decoder = zstd::stream::read::Decoder::with_buffer(compressed);
            let failed = |source| VmlinuxError::Decompression { format: "zstd", source };
            opened("zstd", Box::new(decoder.map_err(failed)?.single_frame()), length)
        }
        [0xfd, b'7', b'z', b'X'] => {
            let (compressed, length) = split();
            opened("xz", Box::new(liblzma::read::XzDecoder::new(compressed)), length)
        }
        [0x7f, b'E', b'L', b'F'] => opened("none", Box::new(payload), None),
        other => return Err(VmlinuxError::Compression(other)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn kernel() -> Vec<u8> {
        let noise = (0..300_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes());
        ELF.iter().copied().chain(noise).collect()
    }

    /// A bzImage with this payload.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * 512 + 64];
        image[SETUP_SECTORS] = 1;
        image[MAGIC.0..MAGIC.0 + 4].copy_from_slice(MAGIC.1);
        image[PROTOCOL..PROTOCOL + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&64_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(b"what the linker put behind it");
        image
    }

    fn with_length(mut compressed: Vec<u8>, length: usize) -> Vec<u8> {
        compressed.extend_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        compressed
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(data: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The legacy frame: blocks of 8 MiB, each after its compressed length.
    fn lz4(data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x02, 0x21, 0x4c, 0x18];
        for block in data.chunks(8 << 20) {
            let compressed = lz4_flex::block::compress(block);
            frame.extend_from_slice(&u32::try_from(compressed.len()).unwrap().to_le_bytes());
            frame.extend_from_slice(&compressed);
        }
        frame
    }

    #[test]
    fn a_kernel_says_its_release() {
        let mut image = image(b"");
        assert_eq!(release(&image), None);
        let text = u16::try_from(image.len() - 512).unwrap();
        image[VERSION..VERSION + 2].copy_from_slice(&text.to_le_bytes());
        image.extend_from_slice(b"6.1.0-9-cloud-amd64 (root@host) #1 SMP\0");
        assert_eq!(release(&image).unwrap(), "6.1.0-9-cloud-amd64");
        image[VERSION..VERSION + 2].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(release(&image), None);
        assert_eq!(release(&kernel()), None);
    }

    #[test]
    fn a_kernel_comes_out_of_every_format_as_it_went_in() {
        let kernel = kernel();
        for (format, payload) in [
            ("gzip", gzip(&kernel)),
            ("xz", with_length(xz(&kernel), kernel.len())),
            ("zstd", with_length(zstd::encode_all(&kernel[..], 1).unwrap(), kernel.len())),
            ("lz4", with_length(lz4(&kernel), kernel.len())),
            ("none", kernel.clone()),
        ] {
            assert!(extract(&image(&payload)).unwrap() == kernel, "{format}");
        }
        assert!(extract(&kernel).unwrap() == kernel);
    }

    #[test]
    fn what_is_no_kernel_is_said_to_be_none() {
        let kernel = kernel();
        assert!(matches!(extract(b""), Err(VmlinuxError::NotAnImage)));
        assert!(matches!(extract(&[0; 4096]), Err(VmlinuxError::NotAnImage)));
        assert!(matches!(extract(&image(b"BZh91AY")), Err(VmlinuxError::Compression(_))));
        assert!(matches!(extract(&image(&gzip(b"a script"))), Err(VmlinuxError::NotElf)));
        let mut old = image(&gzip(&kernel));
        old[PROTOCOL..PROTOCOL + 2].copy_from_slice(&0x0207_u16.to_le_bytes());
        assert_eq!(
            extract(&old).unwrap_err().to_string(),
            "its boot protocol 2.7 does not tell where the kernel is; 2.8 does"
        );
        let lying = with_length(lz4(&kernel), kernel.len() + 1);
        assert!(matches!(extract(&image(&lying)), Err(VmlinuxError::Length { .. })));
    }

    #[test]
    fn a_kernel_that_is_cut_or_damaged_never_comes_out_whole() {
        let kernel = kernel();
        for payload in [
            gzip(&kernel),
            with_length(xz(&kernel), kernel.len()),
            with_length(zstd::encode_all(&kernel[..], 1).unwrap(), kernel.len()),
            with_length(lz4(&kernel), kernel.len()),
        ] {
            for length in [4, 5, 11, payload.len() / 2, payload.len() - 1] {
                assert!(extract(&image(&payload[..length])).is_err(), "{length} of {}", payload.len());
            }
            let whole = image(&payload);
            for length in [0x1f1, 0x203, 0x24c, 1024, whole.len() / 2] {
                assert!(extract(&whole[..length]).is_err(), "{length} of {}", whole.len());
            }
        }
    }
}

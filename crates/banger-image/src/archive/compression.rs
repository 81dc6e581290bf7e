//! What archives are packed with, seen by their content.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{ArchiveError, BUFFER};

/// Buffers on their way from the thread that unpacks.
const BUFFERS: usize = 4;
/// Largest window of zstd, as the power of two, bytes: what its own program takes unless told otherwise.
const LARGEST_WINDOW: u32 = 27;
/// Most memory that unpacking xz may take, bytes: what its highest level needs.
const XZ_MEMORY: u64 = 65 << 20;

/// What an archive is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// gzip (RFC 1952), of any number of members, as eStargz has.
    Gzip,
    /// Zstandard (RFC 8878), of any number of frames.
    Zstd,
    /// xz.
    Xz,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        })
    }
}

impl Compression {
    /// Recognises it by the magic numbers of the formats. `start` is the archive's first 512 bytes.
    pub(crate) fn of(start: &[u8]) -> Result<Self, ArchiveError> {
        // A tar whose first name begins like a packed one has its magic at 257 all the same.
        if start.get(257..262) == Some(b"ustar") {
            return Ok(Self::None);
        }
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // The second is a skippable frame, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::Xz),
            [b'B', b'Z', b'h', ..] => {
                Err(ArchiveError::Compressed { program: "bzip2", command: "bunzip2 FILE" })
            }
            [0x04, 0x22, 0x4d, 0x18, ..] => {
                Err(ArchiveError::Compressed { program: "lz4", command: "unlz4 FILE" })
            }
            _ => Ok(Self::None),
        }
    }

    /// Fails for what is packed.
    pub(super) fn refuse(self) -> Result<(), ArchiveError> {
        let (program, command) = match self {
            Self::None => return Ok(()),
            Self::Gzip => ("gzip", "gunzip FILE"),
            Self::Zstd => ("zstd", "unzstd FILE"),
            Self::Xz => ("xz", "unxz FILE"),
        };
        Err(ArchiveError::Compressed { program, command })
    }

    /// Returns a reader of what `packed` unpacks to.
    pub(crate) fn decoder<'a>(self, packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::new(packed)?;
                decoder.window_log_max(LARGEST_WINDOW)?;
                Box::new(decoder)
            }
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                        .map_err(io::Error::other)?;
                Box::new(liblzma::read::XzDecoder::new_stream(packed, stream))
            }
        })
    }
}

/// Lets `consume` read what `packed` unpacks to; a thread beside this one unpacks.
pub(super) fn unpack<T>(
    packed: impl Read + Send,
    compression: Compression,
    consume: impl FnOnce(&mut Unpacking) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    let (sender, receiver) = sync_channel(BUFFERS);
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, move || {
                if let Err(error) = send(packed, compression, &sender) {
                    // Whoever reads may have had enough.
                    sender.send(Err(error)).ok();
                }
            })
            .map_err(ArchiveError::Read)?;
        let mut unpacking = Unpacking { receiver, buffer: Vec::new(), at: 0, broken: None };
        let consumed = consume(&mut unpacking);
        // The thread ends when nobody takes what it sends.
        match unpacking.broken {
            Some(error) => Err(error),
            None => consumed,
        }
    })
}

/// Unpacks to the end, or until nobody wants more.
fn send(
    packed: impl Read,
    compression: Compression,
    sender: &SyncSender<Result<Vec<u8>, ArchiveError>>,
) -> Result<(), ArchiveError> {
    let failed = AtomicBool::new(false);
    let packed = Watched { reader: packed, failed: &failed };
    let mut unpacked = compression.decoder(packed).map_err(ArchiveError::Read)?;
    loop {
        let mut buffer = Vec::with_capacity(BUFFER);
        let got = (&mut unpacked).take(BUFFER as u64).read_to_end(&mut buffer);
        let got = got.map_err(|error| match error.kind() {
            _ if failed.load(Ordering::Relaxed) => ArchiveError::Read(error),
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
            _ => ArchiveError::Packing(compression, error),
        })?;
        if got == 0 || sender.send(Ok(buffer)).is_err() {
            return Ok(());
        }
    }
}

/// Remembers whether its reader failed: what else fails is the unpacking.
struct Watched<'a, R> {
    reader: R,
    failed: &'a AtomicBool,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).inspect_err(|error| {
            self.failed.fetch_or(error.kind() != io::ErrorKind::Interrupted, Ordering::Relaxed);
        })
    }
}

/// What the thread has unpacked.
pub(super) struct Unpacking {
    receiver: Receiver<Result<Vec<u8>, ArchiveError>>,
    buffer: Vec<u8>,
    at: usize,
    broken: Option<ArchiveError>,
}

impl Read for Unpacking {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            match self.receiver.recv() {
                Ok(Ok(buffer)) => (self.buffer, self.at) = (buffer, 0),
                Ok(Err(error)) => {
                    let text = error.to_string();
                    self.broken = Some(error);
                    return Err(io::Error::other(text));
                }
                // The thread has come to the end.
                Err(_) => return Ok(0),
            }
        }
        let got = space.len().min(self.buffer.len() - self.at);
        space[..got].copy_from_slice(&self.buffer[self.at..self.at + got]);
        self.at += got;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_content() {
        let packed = |compression| Compression::of(compression).ok();
        assert_eq!(packed(b"\x1f\x8b\x08"), Some(Compression::Gzip));
        assert_eq!(packed(b"\x28\xb5\x2f\xfd"), Some(Compression::Zstd));
        assert_eq!(packed(b"\x52\x2a\x4d\x18\x04"), Some(Compression::Zstd));
        assert_eq!(packed(b"\xfd7zXZ\0"), Some(Compression::Xz));
        assert_eq!(packed(b""), Some(Compression::None));
        assert!(packed(b"BZh9").is_none());
        let mut tar = [0; 512];
        tar[..2].copy_from_slice(b"\x1f\x8b");
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(packed(&tar), Some(Compression::None));
    }

    #[test]
    fn a_source_that_fails_is_told_from_one_that_is_damaged() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is broken"))
            }
        }
        let all = |packed: &mut (dyn Read + Send)| {
            unpack(packed, Compression::Gzip, |unpacking| {
                let mut all = Vec::new();
                unpacking.read_to_end(&mut all)?;
                Ok(all)
            })
        };
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, &vec![7; 1_000_000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(all(&mut &packed[..]).unwrap(), vec![7; 1_000_000]);
        assert_eq!(all(&mut &[&packed[..], &packed].concat()[..]).unwrap().len(), 2_000_000, "two members");
        assert!(matches!(all(&mut &packed[..packed.len() / 2]), Err(ArchiveError::Truncated)));
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 4].fill(0xff);
        assert!(matches!(all(&mut &damaged[..]), Err(ArchiveError::Packing(Compression::Gzip, _))));
        assert!(matches!(all(&mut (&packed[..50]).chain(Failing)), Err(ArchiveError::Read(_))));
    }
}

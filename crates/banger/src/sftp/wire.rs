//! The numbers, strings and attributes of SFTP packets (draft-ietf-secsh-filexfer-02 sections 3 and 5).

use banger_types::sftp::attribute_flag;

use super::SftpError;

/// Reads a packet from its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SftpError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(SftpError::Nonsense("a packet is too short"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn byte(&mut self) -> Result<u8, SftpError> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    pub(super) fn number(&mut self) -> Result<u32, SftpError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub(super) fn long(&mut self) -> Result<u64, SftpError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], SftpError> {
        let length = self.number()? as usize;
        let split = self.0.split_at_checked(length).ok_or(SftpError::Nonsense("a string is too short"))?;
        self.0 = split.1;
        Ok(split.0)
    }
}

/// Writes what a packet is made of, part by part.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds a string. None here comes near 4 GiB: pieces of files are short, and so are paths.
    pub(super) fn string(self, string: &[u8]) -> Self {
        let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
        let mut writer = self.number(length);
        writer.0.extend_from_slice(&string[..length as usize]);
        writer
    }
}

/// What kind of file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a pipe or a socket.
    Special,
}

/// What a guest says of a file, or is told of one; each part may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    /// Bytes.
    pub(crate) size: Option<u64>,
    /// Kind and permissions, as `st_mode` (inode(7)).
    pub(crate) mode: Option<u32>,
    /// Last access and last change of its content, seconds since the epoch.
    pub(crate) times: Option<(u32, u32)>,
}

impl Attributes {
    /// Returns the kind of file; `None` when the guest did not say.
    pub(crate) fn kind(&self) -> Option<Kind> {
        Some(match self.mode? & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Link,
            _ => Kind::Special,
        })
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, SftpError> {
        let flags = reader.number()?;
        let mut attributes = Self::default();
        if flags & attribute_flag::SIZE != 0 {
            attributes.size = Some(reader.long()?);
        }
        if flags & attribute_flag::OWNER != 0 {
            reader.number()?;
            reader.number()?;
        }
        if flags & attribute_flag::PERMISSIONS != 0 {
            attributes.mode = Some(reader.number()?);
        }
        if flags & attribute_flag::TIMES != 0 {
            attributes.times = Some((reader.number()?, reader.number()?));
        }
        if flags & attribute_flag::EXTENDED != 0 {
            // Each takes bytes of the packet, so a count that is a lie ends with those.
            for _ in 0..reader.number()? {
                reader.string()?;
                reader.string()?;
            }
        }
        Ok(attributes)
    }

    /// Writes the permissions and times; a size would cut the file.
    pub(super) fn write(&self, writer: Writer) -> Writer {
        let given = |is_some: bool, flag: u32| if is_some { flag } else { 0 };
        let mut writer = writer.number(
            given(self.mode.is_some(), attribute_flag::PERMISSIONS)
                | given(self.times.is_some(), attribute_flag::TIMES),
        );
        if let Some(mode) = self.mode {
            writer = writer.number(mode & 0o7777);
        }
        if let Some((access, change)) = self.times {
            writer = writer.number(access).number(change);
        }
        writer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_what_is_short_does_not() {
        let writer = Writer::default().number(7).string(b"a\xff").long(1 << 40);
        let mut reader = Reader(&writer.0);
        assert_eq!(reader.number().unwrap(), 7);
        assert_eq!(reader.string().unwrap(), b"a\xff");
        assert_eq!(reader.long().unwrap(), 1 << 40);
        assert!(reader.byte().is_err());
        assert!(Reader(&[0xff, 0xff, 0xff, 0xff, 1]).string().is_err());
    }

    #[test]
    fn attributes_are_those_that_the_flags_name() {
        let writer = Writer::default()
            .number(
                attribute_flag::SIZE
                    | attribute_flag::OWNER
                    | attribute_flag::PERMISSIONS
                    | attribute_flag::TIMES
                    | attribute_flag::EXTENDED,
            )
            .long(5)
            .number(1000)
            .number(1000)
            .number(0o100_640)
            .number(1)
            .number(2);
        let writer = writer.number(1).string(b"name").string(b"value");
        let attributes = Attributes::read(&mut Reader(&writer.0)).unwrap();
        let expected = Attributes { size: Some(5), mode: Some(0o100_640), times: Some((1, 2)) };
        assert_eq!((attributes, attributes.kind()), (expected, Some(Kind::File)));

        let written = expected.write(Writer::default());
        let told = Attributes::read(&mut Reader(&written.0)).unwrap();
        assert_eq!(told, Attributes { size: None, mode: Some(0o640), times: Some((1, 2)) });
        // Four billion extensions in eight bytes.
        let lie = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert!(Attributes::read(&mut Reader(&lie)).is_err());
    }
}

//! The numbers and strings of SFTP packets (draft-ietf-secsh-filexfer-02 section 3).

/// A packet is not what its type asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a packet from its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub(super) fn long(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()? as usize;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(string)
    }
}

/// Writes a packet.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// Begins a packet of this type that answers the request of this number.
    pub(super) fn answer(kind: u8, id: u32) -> Self {
        let mut writer = Self(vec![kind]);
        writer.number(id);
        writer
    }

    pub(super) fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn long(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Adds a string. None here comes near 4 GiB: packets that we read are short, and so are names.
    pub(super) fn string(&mut self, string: &[u8]) {
        let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
        self.number(length);
        self.0.extend_from_slice(&string[..length as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_what_is_short_does_not() {
        let mut writer = Writer::answer(103, 7);
        writer.string(b"a\xff");
        writer.long(1 << 40);
        let bytes = writer.0;
        let mut reader = Reader(&bytes);
        assert_eq!(reader.byte(), Ok(103));
        assert_eq!(reader.number(), Ok(7));
        assert_eq!(reader.string(), Ok(&b"a\xff"[..]));
        assert_eq!(reader.long(), Ok(1 << 40));
        assert_eq!(reader.byte(), Err(Malformed));
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 1]).string(), Err(Malformed));
    }
}

//! A guest's file server that lies: it lists what the test says, and gives every file the same content.

use std::collections::HashMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// One line of a directory's list: a name, and `st_mode`.
type Line = (Vec<u8>, u32);

/// What the server answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hostile {
    /// What is in each directory, by its path; a directory without a list is empty.
    pub(crate) lists: HashMap<Vec<u8>, Vec<Line>>,
    /// Where every link leads.
    pub(crate) target: Vec<u8>,
    /// The packet that answers each request, in place of a good one; its number is put in.
    pub(crate) nonsense: Option<(u8, Vec<u8>)>,
    /// Whether files have no end.
    pub(crate) endless: bool,
}

impl Hostile {
    /// Returns it with a directory that lists these names.
    pub(crate) fn list(mut self, path: &str, lines: &[(&[u8], u32)]) -> Self {
        let lines = lines.iter().map(|(name, mode)| (name.to_vec(), *mode)).collect();
        self.lists.insert(path.as_bytes().to_vec(), lines);
        self
    }

    pub(super) fn start(self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(self.serve(theirs));
        ours
    }

    async fn serve(self, mut stream: UnixStream) {
        // Handles are the paths that they were opened with; a list is told once.
        let mut told: Vec<Vec<u8>> = Vec::new();
        while let Ok(length) = stream.read_u32().await {
            let mut packet = vec![0; length as usize];
            stream.read_exact(&mut packet).await.unwrap();
            let (kind, rest) = (packet[0], &packet[1..]);
            let answer = if kind == 1 {
                [&[2][..], &3u32.to_be_bytes()].concat()
            } else {
                let (id, body) = rest.split_at(4);
                let (kind, body) = match &self.nonsense {
                    Some(nonsense) => nonsense.clone(),
                    None => self.answer(kind, body, &mut told),
                };
                [&[kind][..], id, &body].concat()
            };
            let whole = [&u32::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat();
            if stream.write_all(&whole).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, kind: u8, body: &[u8], told: &mut Vec<Vec<u8>>) -> (u8, Vec<u8>) {
        let first = first_string(body);
        match kind {
            // OPEN, OPENDIR: the handle is the path.
            3 | 11 => (102, string(&first)),
            // READ: what there is from the beginning on.
            5 => {
                let at = 4 + first.len();
                let offset = u64::from_be_bytes(body[at..at + 8].try_into().unwrap());
                let length = u32::from_be_bytes(body[at + 8..at + 12].try_into().unwrap());
                if self.endless {
                    (103, string(&vec![b'x'; length as usize]))
                } else if offset == 0 {
                    (103, string(b"hostile"))
                } else {
                    status(1)
                }
            }
            // LSTAT, STAT: every path that is asked for is a directory.
            7 | 17 => (105, attributes(0o040_755)),
            12 if told.contains(&first) => status(1),
            12 => {
                let list = self.lists.get(&first).cloned().unwrap_or_default();
                told.push(first);
                let mut body = u32::try_from(list.len()).unwrap().to_be_bytes().to_vec();
                for (name, mode) in list {
                    body.extend([string(&name), string(b""), attributes(mode)].concat());
                }
                (104, body)
            }
            // READLINK.
            19 => {
                (104, [&1u32.to_be_bytes()[..], &string(&self.target), &string(b""), &attributes(0)].concat())
            }
            _ => status(0),
        }
    }
}

fn first_string(body: &[u8]) -> Vec<u8> {
    let length = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
    body[4..4 + length].to_vec()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn attributes(mode: u32) -> Vec<u8> {
    [4u32.to_be_bytes(), mode.to_be_bytes()].concat()
}

fn status(code: u32) -> (u8, Vec<u8>) {
    (101, [&code.to_be_bytes()[..], &string(b""), &string(b"")].concat())
}

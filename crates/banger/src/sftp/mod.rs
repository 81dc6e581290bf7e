//! A client of SFTP, version 3 (draft-ietf-secsh-filexfer-02), with the extension `posix-rename@openssh.com`.
//!
//! Names are bytes, as they are to both kernels; the libraries that there are take UTF-8 alone. Any
//! number of requests may be under way at once. The guest is not trusted: whatever it says has a limit,
//! and what makes no sense ends the connection.

mod connection;
mod wire;

use banger_types::sftp::{open_flag, reply, request, status};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::io::{AsyncRead, AsyncWrite};

use self::connection::{Connection, Reply};
use self::wire::{Reader, Writer};

pub(crate) use wire::{Attributes, Kind};

/// Bytes of a file in one packet. Servers take 256 KiB; with several under way, more gains nothing.
pub(crate) const CHUNK: usize = 64 << 10;

/// Most packets of one file that are under way at once.
pub(crate) const WINDOW: usize = 16;

/// Longest message of a server that is shown, bytes.
const MESSAGE_LIMIT: usize = 300;

/// Why a request came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SftpError {
    /// The guest refuses, or failed.
    #[error("{text}")]
    Status {
        /// Its code.
        code: u32,
        /// Its words.
        text: String,
    },
    /// The connection is gone.
    #[error("the connection to the guest was lost")]
    Lost,
    /// The guest broke the protocol, and the connection is of no use any more.
    #[error("the guest's file server makes no sense: {0}")]
    Nonsense(&'static str),
}

impl SftpError {
    /// Returns whether no other request can succeed.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::Status { .. })
    }

    /// Returns whether it is because there is nothing of this name.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: status::NO_SUCH_FILE, .. })
    }

    /// Returns whether it is because the user may not.
    pub(crate) fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Status { code: status::PERMISSION_DENIED, .. })
    }
}

type Result<T, E = SftpError> = std::result::Result<T, E>;

/// Something that the guest has open for us.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Vec<u8>);

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name, as the guest says: not to be trusted as a path.
    pub(crate) name: Vec<u8>,
    /// Its own attributes, not those of what it may lead to.
    pub(crate) attributes: Attributes,
}

/// A connection to a guest's file server.
#[derive(Debug)]
pub(crate) struct Sftp {
    connection: Connection,
}

impl Sftp {
    /// Greets the server behind `stream`.
    pub(crate) async fn open<S>(stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Ok(Self { connection: Connection::open(stream).await? })
    }

    /// Returns the attributes of a file; of a link, those of what it leads to.
    pub(crate) async fn metadata(&self, path: &[u8]) -> Result<Attributes> {
        self.attributes(request::STAT, path).await
    }

    /// Returns the attributes of a file; of a link, its own.
    pub(crate) async fn link_metadata(&self, path: &[u8]) -> Result<Attributes> {
        self.attributes(request::LSTAT, path).await
    }

    async fn attributes(&self, kind: u8, path: &[u8]) -> Result<Attributes> {
        let reply = self.ask(kind, Writer::default().string(path)).await?;
        Attributes::read(&mut Reader(expect(&reply, reply::ATTRS)?))
    }

    /// Opens a file to read it.
    pub(crate) async fn open_file(&self, path: &[u8]) -> Result<Handle> {
        self.open_with(path, open_flag::READ, Attributes::default()).await
    }

    /// Makes a file that is not there yet, readable to nobody else, to write it.
    pub(crate) async fn create_file(&self, path: &[u8]) -> Result<Handle> {
        let flags = open_flag::WRITE | open_flag::CREATE | open_flag::EXCLUSIVE;
        self.open_with(path, flags, Attributes { mode: Some(0o600), ..Attributes::default() }).await
    }

    async fn open_with(&self, path: &[u8], flags: u32, attributes: Attributes) -> Result<Handle> {
        let reply =
            self.ask(request::OPEN, attributes.write(Writer::default().string(path).number(flags))).await?;
        handle(&reply)
    }

    /// Reads a file from its beginning to its end and gives it to `take`, piece by piece. `size` is how
    /// long the file is thought to be: that much is asked for at once, and the first short piece from
    /// there on is the last. Where the file ends is the server's word, not `size`: it may change meanwhile, and files
    /// of `/sys` are shorter than they say.
    pub(crate) async fn read_file<E: From<SftpError>>(
        &self,
        handle: &Handle,
        size: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let pieces = usize::try_from(size.div_ceil(CHUNK as u64)).unwrap_or(WINDOW).clamp(1, WINDOW);
        let mut reads = FuturesOrdered::new();
        let mut next = 0;
        loop {
            while reads.len() < pieces {
                reads.push_back(self.read(handle, next, size));
                next += CHUNK as u64;
            }
            let Some(piece) = reads.next().await else { return Ok(()) };
            let piece = piece?;
            take(&piece)?;
            if piece.len() < CHUNK {
                return Ok(());
            }
        }
    }

    /// Returns [`CHUNK`] bytes of a file, or fewer at its end.
    async fn read(&self, handle: &Handle, offset: u64, size: u64) -> Result<Vec<u8>> {
        let mut piece = Vec::new();
        while piece.len() < CHUNK {
            let from = offset + piece.len() as u64;
            let missing = CHUNK - piece.len();
            let Some(data) = self.read_some(handle, from, missing).await? else { break };
            if data.is_empty() || data.len() > missing {
                return Err(SftpError::Nonsense("it read another number of bytes than it was asked"));
            }
            piece.extend_from_slice(&data);
            if data.len() < missing && from + data.len() as u64 >= size {
                break;
            }
        }
        Ok(piece)
    }

    /// Returns at most `length` bytes from `offset` on; `None` at the end.
    async fn read_some(&self, handle: &Handle, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let asked = self.ask(request::READ, Writer::default().string(&handle.0).long(offset).number(length));
        match asked.await {
            Ok(reply) => Ok(Some(Reader(expect(&reply, reply::DATA)?).string()?.to_vec())),
            Err(SftpError::Status { code: status::END_OF_FILE, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a piece of a file.
    pub(crate) async fn write(&self, handle: &Handle, offset: u64, data: Vec<u8>) -> Result<()> {
        self.do_it(request::WRITE, Writer::default().string(&handle.0).long(offset).string(&data)).await
    }

    /// Sets the permissions and times of an open file.
    pub(crate) async fn set_attributes(&self, handle: &Handle, attributes: Attributes) -> Result<()> {
        self.do_it(request::FSETSTAT, attributes.write(Writer::default().string(&handle.0))).await
    }

    /// Sets the permissions and times of a file, or of what a link leads to.
    pub(crate) async fn set_path_attributes(&self, path: &[u8], attributes: Attributes) -> Result<()> {
        self.do_it(request::SETSTAT, attributes.write(Writer::default().string(path))).await
    }

    /// Closes a file or a directory.
    pub(crate) async fn close(&self, handle: Handle) -> Result<()> {
        self.do_it(request::CLOSE, Writer::default().string(&handle.0)).await
    }

    /// Opens a directory to read its names.
    pub(crate) async fn open_directory(&self, path: &[u8]) -> Result<Handle> {
        handle(&self.ask(request::OPENDIR, Writer::default().string(path)).await?)
    }

    /// Returns the next names of a directory; `None` at the end.
    pub(crate) async fn read_directory(&self, handle: &Handle) -> Result<Option<Vec<Entry>>> {
        match self.ask(request::READDIR, Writer::default().string(&handle.0)).await {
            Ok(reply) => entries(expect(&reply, reply::NAME)?).map(Some),
            Err(SftpError::Status { code: status::END_OF_FILE, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a directory that only its owner may enter.
    pub(crate) async fn make_directory(&self, path: &[u8]) -> Result<()> {
        let attributes = Attributes { mode: Some(0o700), ..Attributes::default() };
        self.do_it(request::MKDIR, attributes.write(Writer::default().string(path))).await
    }

    /// Removes a file or a link.
    pub(crate) async fn remove(&self, path: &[u8]) -> Result<()> {
        self.do_it(request::REMOVE, Writer::default().string(path)).await
    }

    /// Gives a file another name, in place of what had that name before.
    pub(crate) async fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let names = Writer::default().string(b"posix-rename@openssh.com").string(from).string(to);
        self.do_it(request::EXTENDED, names).await
    }

    /// Returns where a link leads.
    pub(crate) async fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        let reply = self.ask(request::READLINK, Writer::default().string(path)).await?;
        let mut names = entries(expect(&reply, reply::NAME)?)?;
        let name = names.pop().filter(|_| names.is_empty());
        Ok(name.ok_or(SftpError::Nonsense("a link leads to another number of places than one"))?.name)
    }

    /// Makes a link that is not there yet.
    pub(crate) async fn make_link(&self, target: &[u8], link: &[u8]) -> Result<()> {
        // Target first: not what the draft says, but what OpenSSH does (PROTOCOL, section 4.1).
        self.do_it(request::SYMLINK, Writer::default().string(target).string(link)).await
    }

    /// Makes a request that is answered by a status alone.
    async fn do_it(&self, kind: u8, body: Writer) -> Result<()> {
        match self.ask(kind, body).await {
            Ok(_) => Err(SftpError::Nonsense("it answers something else than it was asked")),
            Err(SftpError::Status { code: status::OK, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a request and returns its answer; a status, even a good one, is an error.
    async fn ask(&self, kind: u8, body: Writer) -> Result<Reply> {
        let reply = self.connection.ask(kind, &body).await?;
        if reply.kind != reply::STATUS {
            return Ok(reply);
        }
        let mut reader = Reader(&reply.body);
        let code = reader.number()?;
        // Servers of before version 3 send no words.
        let words = reader.string().unwrap_or_default();
        let text = String::from_utf8_lossy(&words[..words.len().min(MESSAGE_LIMIT)]).into_owned();
        let text = if text.is_empty() { format!("the guest says so, with code {code}") } else { text };
        Err(SftpError::Status { code, text })
    }
}

/// Returns what an answer of this kind says.
fn expect(reply: &Reply, kind: u8) -> Result<&[u8]> {
    if reply.kind == kind {
        Ok(&reply.body)
    } else {
        Err(SftpError::Nonsense("it answers something else than it was asked"))
    }
}

fn handle(reply: &Reply) -> Result<Handle> {
    Ok(Handle(Reader(expect(reply, reply::HANDLE)?).string()?.to_vec()))
}

fn entries(body: &[u8]) -> Result<Vec<Entry>> {
    let mut reader = Reader(body);
    // Nothing is set aside for the count: each entry takes bytes of the packet, and a lie ends with those.
    let count = reader.number()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let name = reader.string()?.to_vec();
        reader.string()?;
        entries.push(Entry { name, attributes: Attributes::read(&mut reader)? });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A request as a server sees it: type, number, and what comes after that.
    type Request = (u8, u32, Vec<u8>);

    async fn receive(stream: &mut DuplexStream) -> Request {
        let length = stream.read_u32().await.unwrap() as usize;
        let mut packet = vec![0; length];
        stream.read_exact(&mut packet).await.unwrap();
        let mut reader = Reader(&packet);
        (reader.byte().unwrap(), reader.number().unwrap(), reader.0.to_vec())
    }

    async fn answer(stream: &mut DuplexStream, kind: u8, id: u32, body: Writer) {
        let packet = [&[kind][..], &id.to_be_bytes(), &body.0].concat();
        stream.write_all(&Writer::default().string(&packet).0).await.unwrap();
    }

    /// Returns a client, and its server's end after the greeting.
    async fn connected() -> (Sftp, DuplexStream) {
        let (ours, mut theirs) = duplex(1 << 20);
        let greeting = async {
            assert_eq!(receive(&mut theirs).await, (1, 3, Vec::new()));
            answer(&mut theirs, 2, 3, Writer::default()).await;
        };
        let (sftp, ()) = tokio::join!(Sftp::open(ours), greeting);
        (sftp.unwrap(), theirs)
    }

    /// Serves a file of this content, at most `most` bytes at once, until the client hangs up.
    async fn serve_file(mut stream: DuplexStream, content: &[u8], most: usize) -> usize {
        let mut requests = 0;
        while let Ok(length) = stream.read_u32().await {
            let mut packet = vec![0; length as usize];
            stream.read_exact(&mut packet).await.unwrap();
            let mut reader = Reader(&packet);
            assert_eq!(reader.byte().unwrap(), request::READ);
            let id = reader.number().unwrap();
            assert_eq!(reader.string().unwrap(), b"handle");
            let offset = usize::try_from(reader.long().unwrap()).unwrap();
            let wanted = (reader.number().unwrap() as usize).min(most);
            requests += 1;
            match content.get(offset..) {
                Some(rest) if !rest.is_empty() => {
                    let body = Writer::default().string(&rest[..wanted.min(rest.len())]);
                    answer(&mut stream, reply::DATA, id, body).await;
                }
                _ => {
                    answer(&mut stream, reply::STATUS, id, Writer::default().number(status::END_OF_FILE))
                        .await;
                }
            }
        }
        requests
    }

    async fn read_back(content: &[u8], size: u64, most: usize) -> (Vec<u8>, usize) {
        let (sftp, server) = connected().await;
        let reading = async {
            let mut back = Vec::new();
            let take = |piece: &[u8]| {
                back.extend_from_slice(piece);
                Ok::<_, SftpError>(())
            };
            sftp.read_file(&Handle(b"handle".to_vec()), size, take).await.unwrap();
            drop(sftp);
            back
        };
        tokio::join!(reading, serve_file(server, content, most))
    }

    #[tokio::test]
    async fn a_file_is_read_whole_whatever_its_length_and_its_servers_pieces() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 20 * CHUNK + 7] {
            let content: Vec<u8> = (0..=250).cycle().step_by(31).take(length).collect();
            // Its size may be unknown, as of what is in /proc, and it may have grown or shrunk since.
            for size in [length as u64, 0, 2 * length as u64 + 1] {
                for most in [CHUNK, CHUNK / 3] {
                    // A server of short pieces makes no promise that one at the end is the last.
                    if most < CHUNK && size < length as u64 {
                        continue;
                    }
                    let (back, _) = read_back(&content, size, most).await;
                    assert!(back == content, "{length} {size} {most}: {} bytes came", back.len());
                }
            }
        }
    }

    #[tokio::test]
    async fn a_small_file_takes_one_request() {
        assert_eq!(read_back(b"small", 5, CHUNK).await.1, 1);
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_order() {
        let (sftp, mut server) = connected().await;
        let serving = async {
            let (first, second) = (receive(&mut server).await, receive(&mut server).await);
            for (kind, id, body) in [second, first] {
                assert_eq!(kind, request::READLINK);
                let name = Reader(&body).string().unwrap().to_vec();
                let body = Writer::default().number(1).string(&name).string(b"").number(0);
                answer(&mut server, reply::NAME, id, body).await;
            }
        };
        let (a, b, ()) = tokio::join!(sftp.read_link(b"a\xff"), sftp.read_link(b"b"), serving);
        assert_eq!((a.unwrap(), b.unwrap()), (b"a\xff".to_vec(), b"b".to_vec()));
    }

    #[tokio::test]
    async fn more_than_was_asked_for_is_nonsense() {
        let (sftp, mut server) = connected().await;
        let handle = Handle(b"handle".to_vec());
        let reading = sftp.read_file(&handle, 0, |_| Ok::<_, SftpError>(()));
        let serving = async {
            let (_, id, _) = receive(&mut server).await;
            answer(&mut server, reply::DATA, id, Writer::default().string(&vec![0; CHUNK + 1])).await;
        };
        let (read, ()) = tokio::join!(reading, serving);
        assert!(matches!(read, Err(SftpError::Nonsense(_))), "{read:?}");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_ends_the_connection() {
        let (sftp, mut server) = connected().await;
        let serving = async {
            let (_, id, _) = receive(&mut server).await;
            answer(&mut server, reply::STATUS, id.wrapping_add(9), Writer::default().number(0)).await;
        };
        let (first, ()) = tokio::join!(sftp.remove(b"a"), serving);
        assert!(first.unwrap_err().is_fatal());
        assert!(sftp.remove(b"b").await.unwrap_err().is_fatal(), "and it stays so");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_lost() {
        let (sftp, server) = connected().await;
        drop(server);
        assert!(matches!(sftp.remove(b"a").await, Err(SftpError::Lost)));
        let (ours, theirs) = duplex(64);
        drop(theirs);
        assert!(matches!(Sftp::open(ours).await, Err(SftpError::Lost)));
    }
}

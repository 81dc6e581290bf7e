//! Packets to a server and from it: each request has a number, by which its answer finds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use banger_types::sftp::{VERSION, reply, request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::SftpError;
use super::wire::{Reader, Writer};

/// Longest packet that is read, bytes: a piece of a file, or names, with much room.
const PACKET_LIMIT: usize = 512 << 10;

/// Requests that wait to be sent.
const QUEUE: usize = 64;

/// An answer: its type, and what comes after its number.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// A connection whose packets two tasks pass on until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    packets: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
    tasks: [JoinHandle<()>; 2],
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
struct Waiting {
    last: u32,
    requests: HashMap<u32, oneshot::Sender<Result<Reply, SftpError>>>,
    /// What ended the connection.
    ended: Option<SftpError>,
}

impl Connection {
    /// Greets the server behind `stream`.
    pub(super) async fn open<S>(stream: S) -> Result<Self, SftpError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let greeting = Writer(vec![request::INIT]).number(VERSION);
        write_packet(&mut writer, &greeting.0).await?;
        let answer = read_packet(&mut reader).await?;
        let mut answer = Reader(&answer);
        if (answer.byte()?, answer.number()?) != (reply::VERSION, VERSION) {
            return Err(SftpError::Nonsense("it speaks another version"));
        }
        let (packets, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE);
        let waiting = Arc::<Mutex<Waiting>>::default();
        let answers = Arc::clone(&waiting);
        let sending = tokio::spawn(async move {
            while let Some(packet) = queue.recv().await {
                // A connection that breaks is told by the half that reads.
                if write_packet(&mut writer, &packet).await.is_err() {
                    return;
                }
            }
        });
        let receiving = tokio::spawn(async move {
            let ended = loop {
                let passed_on = match read_packet(&mut reader).await {
                    Ok(packet) => pass_on(&answers, &packet),
                    Err(error) => Err(error),
                };
                if let Err(error) = passed_on {
                    break error;
                }
            };
            let mut waiting = answers.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.ended = Some(ended);
            // Whoever waits learns that nothing will come.
            waiting.requests.clear();
        });
        Ok(Self { packets, waiting, tasks: [sending, receiving] })
    }

    /// Sends a request and returns its answer.
    pub(super) async fn ask(&self, kind: u8, body: &Writer) -> Result<Reply, SftpError> {
        let (id, answer) = self.register()?;
        let mut packet = Writer(vec![kind]).number(id);
        packet.0.extend_from_slice(&body.0);
        if self.packets.send(packet.0).await.is_err() {
            return Err(self.ended());
        }
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    fn register(&self) -> Result<(u32, oneshot::Receiver<Result<Reply, SftpError>>), SftpError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = &waiting.ended {
            return Err(ended.clone());
        }
        // Numbers come round only after 4 billion requests, of which few are still under way.
        loop {
            waiting.last = waiting.last.wrapping_add(1);
            if !waiting.requests.contains_key(&waiting.last) {
                break;
            }
        }
        let id = waiting.last;
        let (sender, answer) = oneshot::channel();
        waiting.requests.insert(id, sender);
        Ok((id, answer))
    }

    fn ended(&self) -> SftpError {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.ended.clone().unwrap_or(SftpError::Lost)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Gives an answer to the request that it belongs to.
fn pass_on(waiting: &Mutex<Waiting>, packet: &[u8]) -> Result<(), SftpError> {
    let mut reader = Reader(packet);
    let (kind, id) = (reader.byte()?, reader.number()?);
    let request = waiting.lock().unwrap_or_else(PoisonError::into_inner).requests.remove(&id);
    let request = request.ok_or(SftpError::Nonsense("it answers what nobody asked"))?;
    // Nobody may want it any more.
    drop(request.send(Ok(Reply { kind, body: reader.0.to_vec() })));
    Ok(())
}

async fn write_packet(writer: &mut (impl AsyncWrite + Unpin), packet: &[u8]) -> Result<(), SftpError> {
    let length = u32::try_from(packet.len()).map_err(|_| SftpError::Lost)?;
    let whole = [&length.to_be_bytes(), packet].concat();
    writer.write_all(&whole).await.map_err(|_| SftpError::Lost)?;
    writer.flush().await.map_err(|_| SftpError::Lost)
}

async fn read_packet(reader: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, SftpError> {
    let length = reader.read_u32().await.map_err(|_| SftpError::Lost)? as usize;
    if length > PACKET_LIMIT {
        return Err(SftpError::Nonsense("a packet is too long"));
    }
    let mut packet = vec![0; length];
    reader.read_exact(&mut packet).await.map_err(|_| SftpError::Lost)?;
    Ok(packet)
}

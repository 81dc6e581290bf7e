//! The stream of events, as a client reads it.

use banger_types::event::{Change, Event};
use banger_types::operation::Operation;
use banger_types::vm::Vm;
use bytes::{Buf as _, BytesMut};
use hyper::body::Incoming;

use crate::client::{BODY_LIMIT, Client, ClientError, answer, decode, next_data, transport};

type Result<T, E = ClientError> = std::result::Result<T, E>;

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    buffer: BytesMut,
    data: Vec<u8>,
}

impl Events {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), data: Vec::new() }
    }

    /// Returns the next event, or `None` at the end, which is that of the daemon.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            // WHATWG HTML section 9.2.6: fields are lines, and an empty line ends an event. What is in `id` and `event` is in
            // the data as well.
            while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if let Some(data) = line.strip_prefix(b"data:") {
                    self.data.extend_from_slice(data);
                } else if line.is_empty() && !self.data.is_empty() {
                    return decode(&std::mem::take(&mut self.data)).map(Some);
                }
            }
            if self.buffer.len() + self.data.len() > BODY_LIMIT {
                return Err(answer("an event without an end"));
            }
            match next_data(&mut self.body).await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(transport("the stream ended inside an event")),
            }
        }
    }
}

/// What a thing is at each change: first as it is now.
#[derive(Debug)]
pub struct Watch<T> {
    client: Client,
    events: Events,
    name: String,
    ended: bool,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T> Watch<T> {
    pub(crate) fn new(client: Client, events: Events, name: &str) -> Self {
        Self { client, events, name: name.to_owned(), ended: false, of: std::marker::PhantomData }
    }
}

impl Watch<Operation> {
    /// Returns the operation as it has become, or `None` once it has ended, or when the daemon does.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        while !self.ended {
            let operation = match self.events.next().await?.map(|event| event.change) {
                None => break,
                Some(Change::Operation { operation }) => *operation,
                Some(Change::Missed) => self.client.operation(&self.name).await?,
                Some(_) => continue,
            };
            self.ended = operation.status.is_final();
            return Ok(Some(operation));
        }
        Ok(None)
    }
}

impl Watch<Vm> {
    /// Returns the VM as it has become, or `None` once it is deleted, or when the daemon ends.
    pub async fn next(&mut self) -> Result<Option<Vm>> {
        while !self.ended {
            match self.events.next().await?.map(|event| event.change) {
                Some(Change::Vm { vm }) => {
                    // It may get another name.
                    vm.id.as_str().clone_into(&mut self.name);
                    return Ok(Some(*vm));
                }
                Some(Change::Missed) => match self.client.vm(&self.name).await {
                    Err(ClientError::Api(error)) if error.kind == banger_types::ErrorKind::NotFound => break,
                    found => return found.map(Some),
                },
                None | Some(Change::VmDeleted { .. }) => break,
                Some(_) => {}
            }
        }
        self.ended = true;
        Ok(None)
    }
}

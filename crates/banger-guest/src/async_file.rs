//! Pipes, terminals and other descriptors that can be waited for, in tokio.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is read and written without blocking the thread.
#[derive(Debug)]
pub(crate) struct AsyncFile(AsyncFd<OwnedFd>);

impl AsyncFile {
    /// Takes a descriptor over and makes it non-blocking.
    pub(crate) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        let flags = fcntl_getfl(&descriptor)?;
        fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        Self::register(descriptor, interest)
    }

    /// Takes over what can be waited for, but knows nothing of blocking: an epoll instance.
    #[expect(unsafe_code, reason = "tokio cannot see that an OwnedFd keeps its number")]
    pub(crate) fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an OwnedFd has the same number for all of its life, and the AsyncFd owns it.
        Ok(Self(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?))
    }

    /// Waits until there is something to read or accept, and forgets that it was so: the caller looks at everything.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// Reads what is there now; `None` when there is nothing yet, 0 at the end.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(self, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for something to read and reads it; 0 at the end.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.take(|file| rustix::io::read(file, &mut *buffer)).await
    }

    /// Waits until `operation`, which takes something from the descriptor, no longer says that there is nothing yet.
    pub(crate) async fn take<R>(
        &self,
        mut operation: impl FnMut(&OwnedFd) -> rustix::io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(result) = guard.try_io(|inner| Ok(operation(inner.get_ref())?)) {
                return result;
            }
        }
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.0.writable().await?;
            if let Ok(result) = guard.try_io(|inner| Ok(rustix::io::write(inner.get_ref(), bytes)?)) {
                bytes = &bytes[result?..];
            }
        }
        Ok(())
    }
}

impl AsFd for AsyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

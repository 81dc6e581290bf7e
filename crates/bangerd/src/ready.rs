//! Telling whoever started the daemon that it is ready, or why it is not.

use std::io::Write as _;

use banger_types::ApiError;
use banger_types::location::variable;
use banger_types::system::SystemStatus;

/// The pipe of whoever waits for the daemon, if somebody does.
#[derive(Debug)]
pub(crate) struct Ready(Option<std::fs::File>);

impl Ready {
    /// Takes the descriptor that the environment names. To be called once, before any thread.
    pub(crate) fn from_environment() -> Self {
        let number: Option<u32> =
            std::env::var(variable::READY_DESCRIPTOR).ok().and_then(|text| text.parse().ok());
        // Opened anew through /proc: that says whether it is open at all, and needs no trust in it.
        let file = number.filter(|number| *number > 2).and_then(|number| {
            std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}")).ok()
        });
        if let (Some(number), Some(_)) = (number, &file) {
            close_inherited(number);
        }
        Self(file)
    }

    /// Says it, once. A reader that has gone does not matter.
    pub(crate) fn tell(&mut self, result: &Result<SystemStatus, ApiError>) {
        if let Some(mut file) = self.0.take()
            && let Ok(mut line) = serde_json::to_vec(result)
        {
            line.push(b'\n');
            file.write_all(&line).ok();
        }
    }
}

/// The inherited descriptor itself must go: as long as it is open, the reader sees no end.
fn close_inherited(number: u32) {
    use std::os::fd::FromRawFd as _;
    let Ok(number) = i32::try_from(number) else { return };
    // SAFETY: whoever started this process gave it this descriptor and says so; nothing here has
    // opened anything under a number that was already open, and nothing uses it after this.
    #[expect(unsafe_code, reason = "a descriptor that is known by its number alone")]
    drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) });
}

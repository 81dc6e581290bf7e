//! A VM's serial console: a connection that stops being HTTP (RFC 9110 section 7.8).

use hyper::header::{CONNECTION, UPGRADE};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::{answer, failure, transport};
use crate::{Client, ClientError, route};

impl Client {
    /// Attaches to the serial console of a VM that runs: what is read is what the guest prints from now on, what is written is
    /// typed there. Ends with the VM, and with the daemon.
    ///
    /// # Errors
    /// Those of the daemon, and [`ClientError::Answer`] of a daemon that has no consoles.
    pub async fn vm_console(
        &self,
        name: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ClientError> {
        let request = self
            .request(Method::GET, &route::path(route::VM_CONSOLE, name))
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, route::CONSOLE_PROTOCOL);
        let response = self.ask(request, Vec::new()).await?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS if speaks_console(&response) => {
                Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(transport)?))
            }
            StatusCode::SWITCHING_PROTOCOLS => Err(answer("it switches to another protocol")),
            status if status.is_success() => Err(answer("it does not switch the protocol")),
            _ => Err(failure(response).await),
        }
    }
}

fn speaks_console<T>(response: &Response<T>) -> bool {
    response.headers().get(UPGRADE).is_some_and(|protocol| protocol == route::CONSOLE_PROTOCOL)
}

//! What clients may ask, one function each.

use banger_types::guest::{GuestRequest, Service, ShutdownAction};
use banger_types::monitor::{MonitorReply, MonitorRequest};
use mio::Token;
use rustix::process::Signal;

use super::Monitor;
use super::client::{Client, State};
use super::clients::SPLICE_LIMIT;
use super::end::Ending;
use crate::guest::agent::Asker;

impl Monitor {
    /// Acts on a line of a client.
    pub(crate) fn request(&mut self, token: Token, client: &mut Client, line: &[u8]) {
        let answer = match serde_json::from_slice(line) {
            Ok(request) => self.dispatch(token, client, request),
            Err(error) => Err(format!(
                "this monitor ({}) does not know the request: {error}",
                env!("CARGO_PKG_VERSION")
            )),
        };
        match answer {
            Ok(Some(reply)) => client.say(&reply),
            Ok(None) => {}
            Err(reason) => client.say(&MonitorReply::Failed(reason)),
        }
    }

    /// Returns the answer, or nothing when it comes later.
    fn dispatch(
        &mut self,
        token: Token,
        client: &mut Client,
        request: MonitorRequest,
    ) -> Result<Option<MonitorReply>, String> {
        match request {
            MonitorRequest::Status => Ok(Some(MonitorReply::Status(self.board.status().clone()))),
            MonitorRequest::Watch => {
                client.state = State::Watching { told: self.board.generation() };
                Ok(Some(MonitorReply::Status(self.board.published().clone())))
            }
            MonitorRequest::Connect(service) => self.connect(token, client, &service),
            MonitorRequest::Console => self.attach(client),
            MonitorRequest::Guest(request) => self.ask_guest(token, client, request),
            MonitorRequest::Kill => Ok(self.kill(client)),
            MonitorRequest::ForwardAdd(forward) => {
                self.add_forward(&forward).map(|forward| Some(MonitorReply::Forward(forward)))
            }
            MonitorRequest::ForwardRemove(listen) => {
                self.remove_forward(listen).map(|()| Some(MonitorReply::Done))
            }
            MonitorRequest::ForwardAutomatically(wanted) => {
                self.set_automatic(wanted);
                Ok(Some(MonitorReply::Done))
            }
            MonitorRequest::ForwardYield(listen) => {
                self.yield_port(listen);
                Ok(Some(MonitorReply::Done))
            }
        }
    }

    fn connect(
        &mut self,
        token: Token,
        client: &mut Client,
        service: &Service,
    ) -> Result<Option<MonitorReply>, String> {
        if *service == Service::Agent {
            return Err("the agent's stream is the monitor's own; ask with a guest request".to_owned());
        }
        if self.splices.len() >= SPLICE_LIMIT {
            return Err("the monitor has too many open streams".to_owned());
        }
        let stream = self.channel.endpoint.open(&service.to_string()).map_err(|error| error.to_string())?;
        self.streams.insert(stream, token);
        client.state = State::Opening(stream);
        Ok(None)
    }

    fn ask_guest(
        &mut self,
        token: Token,
        client: &mut Client,
        request: GuestRequest,
    ) -> Result<Option<MonitorReply>, String> {
        let agent = self.agent.as_mut().ok_or("the guest's agent is not connected")?;
        let poweroff = request == GuestRequest::Shutdown(ShutdownAction::Poweroff);
        agent.ask(request, Asker::Client(token)).map_err(|error| error.to_string())?;
        self.boot.poweroff_asked |= poweroff;
        client.state = State::AwaitingGuest;
        self.flush_agent();
        Ok(None)
    }

    fn kill(&mut self, client: &mut Client) -> Option<MonitorReply> {
        match self.ending {
            None => {
                self.words.say("the VMM is killed on request");
                self.programs.vmm.signal(Signal::KILL);
            }
            // It has ended by itself; but it may have been about to be started again.
            Some(Ending::Helpers { .. }) => {}
            Some(Ending::Clients { .. } | Ending::Over) => return Some(MonitorReply::Done),
        }
        self.boot.killed = true;
        client.state = State::AwaitingEnd;
        None
    }
}

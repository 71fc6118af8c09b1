//! containerd's event service, as the outbox's sink.

use std::path::PathBuf;

use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::EventsClient;
use tokio::net::UnixStream;
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;

use crate::event::Event;
use crate::outbox::{Sink, SinkError};

/// Forwards events over ttrpc; connects for the first event and again after each
/// failure. It waits for an answer as long as the connection stands: a containerd
/// that was stopped takes the event when it continues, and would get it twice if
/// it were sent again.
pub struct Containerd {
    socket: PathBuf,
    namespace: String,
    client: Option<EventsClient>,
}

impl Containerd {
    /// Events of one namespace to the containerd at `socket`.
    pub fn new(socket: PathBuf, namespace: String) -> Self {
        Self { socket, namespace, client: None }
    }

    async fn client(&mut self) -> Result<EventsClient, SinkError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| SinkError::Away(format!("{}: {error}", self.socket.display())))?;
        let client = EventsClient::new(Client::new(Socket::new(stream)));
        self.client = Some(client.clone());
        Ok(client)
    }
}

impl Sink for Containerd {
    async fn send(&mut self, event: &Event) -> Result<(), SinkError> {
        let client = self.client().await?;
        let request = ForwardRequest {
            envelope: MessageField::some(event.envelope(&self.namespace)),
            ..Default::default()
        };
        // Without a timeout.
        let context = ttrpc::context::Context::default();
        let Err(error) = client.forward(context, &request).await else { return Ok(()) };
        self.client = None;
        Err(classify(error))
    }
}

/// An answer of containerd is final, except that it is overloaded.
fn classify(error: ttrpc::Error) -> SinkError {
    use ttrpc::Code;
    match &error {
        ttrpc::Error::RpcStatus(status) => match status.code.enum_value() {
            Ok(Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED | Code::CANCELLED) => {
                SinkError::Away(status.message.clone())
            }
            _ => SinkError::Refused(status.message.clone()),
        },
        _ => SinkError::Away(error.to_string()),
    }
}

//! The shim's log, and the spans of its calls.
//!
//! containerd copies the lines of the log FIFO into its own log as they are, so
//! they are logfmt as those of runc's shim. `FifoLogger` of containerd-shim
//! quotes and writes them; what is here gives it the fields of an event and of
//! the spans around it.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::fs::File;

use async_trait::async_trait;
use containerd_shim::logger::FifoLogger;
use log::{Log, Record};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument, Level, Span, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};

/// Writes the process's log to `file`, from the level that `SANDBOX_LOG` names;
/// `-debug` of containerd makes it debug at least.
pub fn start(file: File, debug: bool) {
    let level = sandbox_runtime::log_level(LevelFilter::INFO);
    let level = if debug { level.max(LevelFilter::DEBUG) } else { level };
    // The logger asks the `log` crate for the level. Records of other crates go
    // nowhere: `log` itself has no logger.
    log::set_max_level(log::LevelFilter::Trace);
    tracing_subscriber::registry().with(level).with(Logfmt(FifoLogger::with_file(file))).init();
}

struct Logfmt<L>(L);

/// The fields of an event or span.
#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            // An empty exec id names the container's own process.
            _ if value.is_empty() => {}
            name => self.pairs.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Writing to a string fails only if the value's own Debug does.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

impl<L, S> Layer<S> for Logfmt<L>
where
    L: Log + 'static,
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        if let Some(span) = context.span(id) {
            if span.parent().is_some() {
                fields.pairs.push(("call", span.name().to_owned()));
            }
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.pairs.extend(fields.pairs.iter().cloned());
            }
        }
        event.record(&mut all);
        let level = match *event.metadata().level() {
            Level::ERROR => log::Level::Error,
            Level::WARN => log::Level::Warn,
            Level::INFO => log::Level::Info,
            Level::DEBUG => log::Level::Debug,
            Level::TRACE => log::Level::Trace,
        };
        let message = format_args!("{}", all.message);
        let mut record = Record::builder();
        self.0.log(&record.level(level).key_values(&all.pairs).args(message).build());
    }
}

/// A method whose calls run in the pod's span, and in one of their own below it.
struct Traced {
    pod: Span,
    inner: Box<dyn MethodHandler + Send + Sync>,
}

#[async_trait]
impl MethodHandler for Traced {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        self.inner.handler(context, request).instrument(self.pod.clone()).await
    }
}

/// The services, with their calls in the pod's span: ttrpc runs each in a new task.
pub fn services(pod: &Span, mut services: HashMap<String, Service>) -> HashMap<String, Service> {
    for service in services.values_mut() {
        let methods = std::mem::take(&mut service.methods).into_iter();
        service.methods = methods
            .map(|(name, inner)| (name, Box::new(Traced { pod: pod.clone(), inner }) as _))
            .collect();
    }
    services
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;

    #[test]
    fn lines_are_logfmt_with_the_fields_of_every_span() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        log::set_max_level(log::LevelFilter::Trace);
        let subscriber = tracing_subscriber::registry().with(Logfmt(FifoLogger::with_file(file)));
        tracing::subscriber::with_default(subscriber, || {
            let pod = tracing::info_span!("pod", pod = "web");
            let call = pod.in_scope(|| tracing::info_span!("start", container = "a", exec = ""));
            call.in_scope(|| tracing::warn!(pid = 7, "it says \"no\"\nlevel=fatal"));
        });
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        let (time, rest) = line.split_once(" level=").unwrap();
        assert!(time.starts_with("time=\""), "{line}");
        assert_eq!(
            rest,
            "warn pod=\"web\" call=\"start\" container=\"a\" pid=\"7\" msg=\"it says \\\"no\\\"\\nlevel=fatal\"\n"
        );
    }
}

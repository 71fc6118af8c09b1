//! Task events, as containerd's event service takes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::well_known_types::{any::Any, timestamp::Timestamp};
use containerd_shim_protos::protobuf::{MessageField, MessageFull};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::topics;
use sandbox_runtime::{ExecId, Exit, ProcessRef};

/// A time as protobuf has it. Times before 1970 become 1970.
pub fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    }
}

/// An event and where it is published.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    topic: &'static str,
    at: SystemTime,
    payload: Any,
}

impl Event {
    fn new<M: MessageFull>(topic: &'static str, at: SystemTime, message: &M) -> Self {
        // containerd's decoder wants the bare name of the message as type.
        let payload = Any {
            type_url: M::descriptor().full_name().to_owned(),
            value: message.write_to_bytes().unwrap_or_default(),
            ..Default::default()
        };
        Self { topic, at, payload }
    }

    /// A container was made.
    pub fn created(event: &TaskCreate) -> Self {
        Self::new(topics::TASK_CREATE_EVENT_TOPIC, SystemTime::now(), event)
    }

    pub fn started(process: &ProcessRef, pid: u32) -> Self {
        let container_id = process.container.clone();
        let Some(exec) = &process.exec else {
            let event = TaskStart { container_id, pid, ..Default::default() };
            return Self::new(topics::TASK_START_EVENT_TOPIC, SystemTime::now(), &event);
        };
        let exec_id = exec.as_str().to_owned();
        let event = TaskExecStarted { container_id, exec_id, pid, ..Default::default() };
        Self::new(topics::TASK_EXEC_STARTED_EVENT_TOPIC, SystemTime::now(), &event)
    }

    /// An exec was added to a container.
    pub fn exec_added(process: &ProcessRef) -> Self {
        let event = TaskExecAdded {
            container_id: process.container.clone(),
            exec_id: process.exec_id().to_owned(),
            ..Default::default()
        };
        Self::new(topics::TASK_EXEC_ADDED_EVENT_TOPIC, SystemTime::now(), &event)
    }

    /// A process has ended. containerd recognizes the first process of a
    /// container by an `id` equal to the container's.
    pub fn exited(process: &ProcessRef, pid: u32, exit: Exit) -> Self {
        let id = process.exec.as_ref().map_or(process.container.as_str(), ExecId::as_str);
        let event = TaskExit {
            container_id: process.container.clone(),
            id: id.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        };
        Self::new(topics::TASK_EXIT_EVENT_TOPIC, SystemTime::now(), &event)
    }

    /// A container's processes were stopped.
    pub fn paused(container: &str) -> Self {
        let event = TaskPaused { container_id: container.to_owned(), ..Default::default() };
        Self::new(topics::TASK_PAUSED_EVENT_TOPIC, SystemTime::now(), &event)
    }

    pub fn resumed(container: &str) -> Self {
        let event = TaskResumed { container_id: container.to_owned(), ..Default::default() };
        Self::new(topics::TASK_RESUMED_EVENT_TOPIC, SystemTime::now(), &event)
    }

    /// The guest's kernel ended a process of the container for its memory limit.
    pub fn oom(container: &str) -> Self {
        let event = TaskOOM { container_id: container.to_owned(), ..Default::default() };
        Self::new(topics::TASK_OOM_EVENT_TOPIC, SystemTime::now(), &event)
    }

    /// A container was removed.
    pub fn deleted(container: &str, pid: u32, exit: Exit) -> Self {
        let event = TaskDelete {
            container_id: container.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        };
        Self::new(topics::TASK_DELETE_EVENT_TOPIC, SystemTime::now(), &event)
    }

    /// The same event at another time.
    #[cfg(test)]
    pub fn happened_at(self, at: SystemTime) -> Self {
        Self { at, ..self }
    }

    /// Where it is published.
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// As it goes to containerd, for the containers of one namespace.
    pub fn envelope(&self, namespace: &str) -> Envelope {
        Envelope {
            timestamp: MessageField::some(timestamp(self.at)),
            namespace: namespace.to_owned(),
            topic: self.topic.to_owned(),
            event: MessageField::some(self.payload.clone()),
            ..Default::default()
        }
    }
}

/// The streams of a container, as the create event has them.
pub fn io(stdin: &str, stdout: &str, stderr: &str, terminal: bool) -> TaskIO {
    TaskIO {
        stdin: stdin.to_owned(),
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        terminal,
        ..Default::default()
    }
}

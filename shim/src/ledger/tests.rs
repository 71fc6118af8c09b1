#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::SystemTime;

use sandbox_runtime::Exit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::outbox::{Sink, SinkError};

const LIMIT: Duration = Duration::from_secs(2);

struct Topics(UnboundedSender<&'static str>);

impl Sink for Topics {
    async fn send(&mut self, event: &Event) -> Result<(), SinkError> {
        self.0.send(event.topic()).unwrap();
        Ok(())
    }
}

fn ledger() -> (Arc<Ledger>, Outbox, UnboundedReceiver<&'static str>) {
    let outbox = Outbox::default();
    let (sender, topics) = unbounded_channel();
    tokio::spawn(outbox.clone().deliver(Topics(sender)));
    (Arc::new(Ledger::new(outbox.clone())), outbox, topics)
}

async fn all(outbox: &Outbox, topics: &mut UnboundedReceiver<&'static str>) -> Vec<&'static str> {
    assert!(outbox.flush(LIMIT).await);
    std::iter::from_fn(|| topics.try_recv().ok()).collect()
}

fn exit() -> Exit {
    Exit { status: 0, at: SystemTime::now() }
}

fn exited() -> PodEvent {
    exec_exited("")
}

fn exec_exited(exec: &str) -> PodEvent {
    PodEvent::Exit { process: ProcessRef::named("web", exec), pid: 7, exit: exit() }
}

fn exec_started(exec: &str) -> Option<Event> {
    Some(Event::started(&ProcessRef::named("web", exec), 7))
}

fn oom() -> PodEvent {
    PodEvent::Oom { container: "web".into() }
}

#[tokio::test(start_paused = true)]
async fn an_exit_never_overtakes_its_start() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger.happened(oom());
    ledger.happened(exited());
    ledger
        .release(&ProcessRef::named("web", ""), Some(Event::started(&ProcessRef::init("web"), 7)));
    ledger.deleted("web", Event::deleted("web", 7, exit()), LIMIT).await;
    assert_eq!(
        all(&outbox, &mut topics).await,
        ["/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_gives_way_to_the_exit() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger.happened(exited());
    ledger.release(&ProcessRef::named("web", ""), None);
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/exit"]);
}

#[tokio::test(start_paused = true)]
async fn two_calls_at_once_both_come_first() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger.hold(&ProcessRef::named("web", ""));
    ledger.happened(exited());
    ledger.release(&ProcessRef::named("web", ""), None);
    assert_eq!(all(&outbox, &mut topics).await, [""; 0]);
    ledger
        .release(&ProcessRef::named("web", ""), Some(Event::started(&ProcessRef::init("web"), 7)));
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/start", "/tasks/exit"]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_waits_for_the_exit() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger
        .release(&ProcessRef::named("web", ""), Some(Event::started(&ProcessRef::init("web"), 7)));
    let deleting = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            let event = Event::deleted("web", 7, exit());
            ledger.deleted("web", event, LIMIT).await;
        }
    });
    tokio::task::yield_now().await;
    ledger.happened(exited());
    deleting.await.unwrap();
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/start", "/tasks/exit", "/tasks/delete"]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_does_not_wait_for_ever_and_nothing_follows_it() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger
        .release(&ProcessRef::named("web", ""), Some(Event::started(&ProcessRef::init("web"), 7)));
    let event = Event::deleted("web", 7, exit());
    ledger.deleted("web", event.clone(), LIMIT).await;
    ledger.happened(exited());
    ledger.deleted("web", event, LIMIT).await;
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/start", "/tasks/delete"]);
}

#[tokio::test(start_paused = true)]
async fn containers_do_not_wait_for_each_other() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("slow", ""));
    ledger.hold(&ProcessRef::named("web", ""));
    ledger
        .release(&ProcessRef::named("web", ""), Some(Event::started(&ProcessRef::init("web"), 7)));
    ledger.happened(exited());
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/start", "/tasks/exit"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_not_made_has_no_events() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger.happened(exited());
    ledger.forget("web");
    ledger.release(&ProcessRef::named("web", ""), None);
    assert_eq!(all(&outbox, &mut topics).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_execs_exit_waits_for_its_own_start_alone() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger
        .release(&ProcessRef::named("web", ""), Some(Event::started(&ProcessRef::init("web"), 7)));
    ledger.hold(&ProcessRef::named("web", "slow"));
    ledger.hold(&ProcessRef::named("web", "quick"));
    ledger.happened(exec_exited("quick"));
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/start"]);
    ledger.release(&ProcessRef::named("web", "quick"), exec_started("quick"));
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/exec-started", "/tasks/exit"]);
    ledger.happened(exec_exited("slow"));
    assert_eq!(all(&outbox, &mut topics).await, [""; 0]);
    ledger.release(&ProcessRef::named("web", "slow"), exec_started("slow"));
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/exec-started", "/tasks/exit"]);
}

/// The container's exit is the last: [`Ledger::deleted`] waits for it.
#[tokio::test(start_paused = true)]
async fn a_containers_exit_waits_for_its_execs() {
    let (ledger, outbox, mut topics) = ledger();
    ledger.hold(&ProcessRef::named("web", ""));
    ledger.release(&ProcessRef::named("web", ""), Some(Event::created(&Default::default())));
    ledger.hold(&ProcessRef::named("web", "x"));
    ledger.happened(exec_exited("x"));
    ledger.happened(oom());
    ledger.happened(exited());
    assert_eq!(all(&outbox, &mut topics).await, ["/tasks/create"]);
    ledger.release(&ProcessRef::named("web", "x"), exec_started("x"));
    ledger.deleted("web", Event::deleted("web", 7, exit()), LIMIT).await;
    assert_eq!(
        all(&outbox, &mut topics).await,
        ["/tasks/exec-started", "/tasks/exit", "/tasks/oom", "/tasks/exit", "/tasks/delete"]
    );
}

#[tokio::test(start_paused = true)]
async fn calls_about_unknown_containers_leave_nothing() {
    let (ledger, outbox, mut topics) = ledger();
    for exec in ["", "x"] {
        ledger.hold(&ProcessRef::named("web", exec));
        ledger.release(&ProcessRef::named("web", exec), None);
    }
    assert!(ledger.containers.lock().is_empty());
    assert_eq!(all(&outbox, &mut topics).await, [""; 0]);
}

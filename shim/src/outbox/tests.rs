#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sandbox_runtime::ProcessRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::*;

/// Fails as its script says, then takes everything.
struct Scripted {
    failures: VecDeque<SinkError>,
    taken: UnboundedSender<(Event, Duration)>,
    born: Instant,
}

impl Sink for Scripted {
    async fn send(&mut self, event: &Event) -> Result<(), SinkError> {
        match self.failures.pop_front() {
            Some(failure) => Err(failure),
            None => {
                self.taken.send((event.clone(), self.born.elapsed())).unwrap();
                Ok(())
            }
        }
    }
}

fn delivering(
    outbox: &Outbox,
    failures: impl IntoIterator<Item = SinkError>,
) -> UnboundedReceiver<(Event, Duration)> {
    let (taken, receiver) = unbounded_channel();
    let sink = Scripted { failures: failures.into_iter().collect(), taken, born: Instant::now() };
    tokio::spawn(outbox.clone().deliver(sink));
    receiver
}

fn away() -> SinkError {
    SinkError::Away("not there".into())
}

fn numbered(number: u32) -> Event {
    Event::started(&ProcessRef::init(format!("c{number}")), number)
        .happened_at(std::time::UNIX_EPOCH)
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_across_failures_and_each_comes_once() {
    let outbox = Outbox::default();
    let mut taken = delivering(&outbox, (0..7).map(|_| away()));
    let events: Vec<_> = (1..=50).map(numbered).collect();
    for event in &events {
        outbox.push(event.clone());
    }
    assert!(outbox.flush(Duration::from_secs(60)).await);
    let mut got = Vec::new();
    while let Ok((event, _)) = taken.try_recv() {
        got.push(event);
    }
    assert_eq!(got, events);
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time_up_to_a_bound() {
    let outbox = Outbox::default();
    let mut taken = delivering(&outbox, (0..9).map(|_| away()));
    outbox.push(numbered(1));
    let (_, after) = taken.recv().await.unwrap();
    // 50+100+200+400+800+1600 ms, then three times the bound.
    assert_eq!(after, Duration::from_millis(3150) + 3 * LAST_RETRY);
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_does_not_block_the_next() {
    let outbox = Outbox::default();
    let mut taken = delivering(&outbox, [SinkError::Refused("malformed".into())]);
    outbox.push(numbered(1));
    outbox.push(numbered(2));
    assert_eq!(taken.recv().await.unwrap().0, numbered(2));
}

#[tokio::test(start_paused = true)]
async fn overflow_loses_the_oldest_only() {
    let outbox = Outbox::default();
    let extra = 3;
    for number in 0..(CAPACITY as u32 + extra) {
        outbox.push(numbered(number));
    }
    let mut taken = delivering(&outbox, []);
    assert!(outbox.flush(Duration::from_secs(1)).await);
    for number in extra..(CAPACITY as u32 + extra) {
        assert_eq!(taken.try_recv().unwrap().0, numbered(number));
    }
    assert!(taken.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn flush_gives_up_in_time_and_an_empty_outbox_is_flushed() {
    let outbox = Outbox::default();
    assert!(outbox.flush(Duration::from_millis(1)).await);
    let _taken = delivering(&outbox, (0..1000).map(|_| away()));
    outbox.push(numbered(1));
    let began = Instant::now();
    assert!(!outbox.flush(Duration::from_secs(2)).await);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn events_pushed_while_idle_are_delivered() {
    let outbox = Outbox::default();
    let mut taken = delivering(&outbox, []);
    for number in 1..5 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        outbox.push(numbered(number));
        assert_eq!(taken.recv().await.unwrap().0, numbered(number));
    }
}

#![allow(clippy::unwrap_used)]
use super::*;

/// What is taken of these: the same for UDP as for TCP.
fn report(listeners: &[(&[u8], u32, bool)]) -> Vec<String> {
    let [tcp, udp] = [false, true].map(|udp| {
        let listeners = listeners.iter().map(|(ip, port, v6_only)| agent::Listener {
            ip: ip.to_vec(),
            port: *port,
            v6_only: *v6_only,
            udp,
            ..Default::default()
        });
        let report = ListenersResponse { listeners: listeners.collect(), ..Default::default() };
        let read = read(&report);
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        assert!(read.iter().all(|listener| listener.transport == transport));
        read.iter().map(|listener| listener.at.to_string()).collect::<Vec<_>>()
    });
    assert_eq!(tcp, udp);
    tcp
}

#[test]
fn every_form_of_an_address() {
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 7]);
    assert_eq!(report(&[(&[0; 4], 80, false)]), ["0.0.0.0:80"]);
    assert_eq!(report(&[(&[0; 16], 80, false)]), ["0.0.0.0:80", "[::]:80"]);
    assert_eq!(report(&[(&[0; 16], 80, true)]), ["[::]:80"]);
    assert_eq!(report(&[(&mapped, 80, false)]), ["10.0.0.7:80"]);
}

#[test]
fn a_hostile_report_is_bounded() {
    let odd: [(&[u8], u32, bool); 5] = [
        (&[], 80, false),
        (&[1; 5], 80, false),
        (&[0; 4], 0, false),
        (&[0; 4], 65536, false),
        (&[0; 16], u32::MAX, false),
    ];
    assert!(report(&odd).is_empty());
    let many: Vec<(&[u8], u32, bool)> =
        (1..=60_000).map(|port| (&[0; 16][..], port, false)).collect();
    assert_eq!(report(&many).len(), MAX_LISTENERS);
}

#[test]
fn reports_without_end_are_slowed_down() {
    let began = Instant::now();
    let mut pace = Pace::new(began);
    let mut now = began;
    let mut taken = 0;
    while now < began + Duration::from_secs(10) {
        now = pace.next(now);
        taken += 1;
    }
    let most = BURST + 10_000 / u32::try_from(PAUSE.as_millis()).unwrap();
    assert!(taken <= most + 1 && taken >= most - 1, "{taken} of {most}");
    // After a rest, one is passed on at once again.
    let rested = now + Duration::from_secs(5);
    assert_eq!(pace.next(rested), rested);
}

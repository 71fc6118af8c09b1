use super::super::status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET};
use super::*;

const FEATURES: u64 = VERSION_1 | 1 << 29 | 1;

fn device() -> Registers {
    Registers::new(Shape {
        id: 26,
        features: FEATURES,
        queue_sizes: vec![128, 256],
        config: (0..40).collect(),
    })
}

fn read(registers: &Registers, offset: u64) -> u32 {
    let mut data = [0xee; 4];
    registers.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn write(registers: &mut Registers, offset: u64, value: u32) -> Effect {
    registers.write(offset, &value.to_le_bytes())
}

fn status(registers: &mut Registers, bits: u8) -> Effect {
    write(registers, 0x70, u32::from(bits))
}

fn accept(registers: &mut Registers, features: u64) {
    for half in 0..2 {
        write(registers, 0x24, half);
        write(registers, 0x20, (features >> (32 * half)) as u32);
    }
}

fn negotiated(features: u64) -> Registers {
    let mut device = device();
    status(&mut device, ACKNOWLEDGE);
    status(&mut device, ACKNOWLEDGE | DRIVER);
    accept(&mut device, features);
    status(&mut device, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    device
}

fn set_up(device: &mut Registers, queue: u32, size: u32) {
    write(device, 0x30, queue);
    write(device, 0x38, size);
    for (offset, value) in [(0x80, 0x1000), (0x84, 1), (0x90, 0x2000), (0xa0, 0x3000), (0x44, 1)] {
        write(device, offset, value);
    }
}

fn live() -> Registers {
    let mut device = negotiated(FEATURES);
    set_up(&mut device, 0, 64);
    let effect = status(&mut device, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert!(matches!(effect, Effect::Activate(_)));
    device
}

#[test]
fn a_driver_that_keeps_the_order_goes_live() {
    let mut device = negotiated(FEATURES);
    assert_eq!(read(&device, 0x70), 11);
    set_up(&mut device, 1, 64);
    assert_eq!(read(&device, 0x44), 1);
    let Effect::Activate(activation) = status(&mut device, 15) else {
        unreachable!("not live");
    };
    assert_eq!(activation.features, FEATURES);
    let expected = Queue {
        max: 256,
        size: 64,
        ready: true,
        descriptors: 0x1_0000_1000,
        available: 0x2000,
        used: 0x3000,
    };
    assert_eq!(activation.queues, [Queue::new(128), expected]);
    assert_eq!(read(&device, 0x70), 15);
}

#[test]
fn the_identity_is_that_of_the_specification() {
    let device = device();
    let identity = [0, 4, 8].map(|offset| read(&device, offset));
    assert_eq!(identity, [0x7472_6976, 2, 26]);
    assert_eq!(read(&device, 0x60), 1);
    assert_eq!(read(&device, 0xb0), u32::MAX);
    assert_eq!(read(&device, 0xfc), 0);
}

#[test]
fn features_come_in_halves() {
    let mut device = device();
    for (half, expected) in [(0, 1 << 29 | 1), (1, 1), (2, 0), (u32::MAX, 0)] {
        write(&mut device, 0x14, half);
        assert_eq!(read(&device, 0x10), expected);
    }
}

#[test]
fn features_that_were_not_offered_are_not_granted() {
    for features in [FEATURES | 2, VERSION_1 << 1 | VERSION_1, 1, 0] {
        let device = negotiated(features);
        assert_eq!(read(&device, 0x70), 3, "{features:#x}");
    }
    let mut device = device();
    status(&mut device, ACKNOWLEDGE);
    status(&mut device, ACKNOWLEDGE | DRIVER);
    accept(&mut device, FEATURES);
    write(&mut device, 0x24, 2);
    write(&mut device, 0x20, 1);
    status(&mut device, 11);
    assert_eq!(read(&device, 0x70), 3);
}

#[test]
fn queues_are_set_up_between_negotiation_and_driver_ok_only() {
    let mut early = device();
    set_up(&mut early, 0, 64);
    assert_eq!(read(&early, 0x44), 0);
    let mut late = live();
    set_up(&mut late, 1, 64);
    assert_eq!(read(&late, 0x44), 0);
    write(&mut late, 0x30, 0);
    write(&mut late, 0x44, 0);
    assert_eq!(read(&late, 0x44), 1, "a live queue stays");
}

#[test]
fn a_ready_queue_does_not_change() {
    let mut device = negotiated(FEATURES);
    set_up(&mut device, 0, 64);
    set_up(&mut device, 0, 128);
    let Effect::Activate(activation) = status(&mut device, 15) else {
        unreachable!("not live");
    };
    assert_eq!(activation.queues[0].size, 64);
}

#[test]
fn queues_that_do_not_exist_are_ignored() {
    let mut device = negotiated(FEATURES);
    for queue in [2, 0xffff, u32::MAX] {
        set_up(&mut device, queue, 64);
        assert_eq!((read(&device, 0x34), read(&device, 0x44)), (0, 0));
    }
}

#[test]
fn other_widths_than_four_bytes_are_ignored() {
    let mut device = device();
    for width in [1, 2, 3, 5, 8] {
        let mut data = vec![0xee; width];
        device.read(0, &mut data);
        assert!(data.iter().all(|b| *b == 0));
        assert_eq!(device.write(0x70, &vec![1; width]), Effect::None);
    }
    assert_eq!(read(&device, 0x70), 0);
}

#[test]
fn config_is_read_at_any_width_within_its_bounds() {
    let mut device = device();
    let mut data = [0; 8];
    device.read(0x100 + 32, &mut data);
    assert_eq!(data, [32, 33, 34, 35, 36, 37, 38, 39]);
    device.read(0x100 + 33, &mut data);
    assert_eq!(data, [0; 8]);
    for offset in [0x100 + 40, 0xfff, u64::MAX] {
        data = [1; 8];
        device.read(offset, &mut data);
        assert_eq!(data, [0; 8]);
    }
    let mut byte = [0];
    device.read(0x100 + 39, &mut byte);
    assert_eq!(byte, [39]);
    write(&mut device, 0x100, 7);
    device.read(0x100, &mut byte);
    assert_eq!(byte, [0]);
}

#[test]
fn a_reset_reads_zero_only_when_the_backend_has_stopped() {
    let mut device = live();
    assert_eq!(status(&mut device, 0), Effect::Reset);
    assert_eq!(read(&device, 0x70), u32::from(NEEDS_RESET));
    device.reset_done();
    assert_eq!(read(&device, 0x70), 0);
    assert_eq!(read(&device, 0x44), 0);
}

#[test]
fn a_driver_that_does_not_wait_for_the_reset_comes_up_all_the_same() {
    let mut device = live();
    status(&mut device, 0);
    // As Linux does: reads the status and adds a bit.
    for bit in [ACKNOWLEDGE, DRIVER] {
        let now = read(&device, 0x70) as u8;
        status(&mut device, now | bit);
    }
    accept(&mut device, FEATURES);
    let now = read(&device, 0x70) as u8;
    status(&mut device, now | FEATURES_OK);
    assert_ne!(read(&device, 0x70) as u8 & FEATURES_OK, 0);
    set_up(&mut device, 0, 64);
    let now = read(&device, 0x70) as u8;
    assert!(matches!(status(&mut device, now | DRIVER_OK), Effect::Activate(_)));
    device.reset_done();
    assert_eq!(read(&device, 0x70), 15);
}

#[test]
fn a_reset_of_a_device_that_is_not_live_asks_nothing_of_the_backend() {
    let mut device = negotiated(FEATURES);
    assert_eq!(status(&mut device, 0), Effect::None);
    assert_eq!(read(&device, 0x70), 0);
}

#[test]
fn a_failure_is_told_once_and_acknowledged() {
    let mut device = live();
    assert!(device.fail());
    assert!(!device.fail());
    assert_eq!(read(&device, 0x70), u32::from(15 | NEEDS_RESET));
    assert_eq!(read(&device, 0x60), 3);
    write(&mut device, 0x64, 1);
    assert_eq!(read(&device, 0x60), 3);
    write(&mut device, 0x64, 2);
    assert_eq!(read(&device, 0x60), 1);
    assert_eq!(status(&mut device, 0), Effect::Reset);
    assert!(!negotiated(FEATURES).fail(), "not live");
}

#[test]
fn a_driver_that_failed_must_reset() {
    let mut device = live();
    status(&mut device, 15 | FAILED);
    assert_eq!(status(&mut device, 15), Effect::None);
    assert_eq!(read(&device, 0x70), u32::from(15 | FAILED));
    assert_eq!(status(&mut device, 0), Effect::Reset);
}

#[test]
fn a_driver_that_outruns_its_backend_queues_a_bounded_number_of_jobs() {
    let mut device = device();
    let mut jobs = 0;
    for _ in 0..1000 {
        for bits in [ACKNOWLEDGE, ACKNOWLEDGE | DRIVER] {
            status(&mut device, bits);
        }
        accept(&mut device, FEATURES);
        status(&mut device, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        for bits in [ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK, 0] {
            jobs += u32::from(status(&mut device, bits) != Effect::None);
        }
    }
    assert_eq!(jobs, 2 * MAX_RESETTING);
    (0..MAX_RESETTING).for_each(|_| device.reset_done());
    assert_eq!(read(&device, 0x70), 0, "the device can be used again");
}

//! Any sequence of accesses of a guest to the registers of a virtio-mmio
//! device, with resets that end and failures that come in between: a device
//! goes live only as the specification has it.
#![no_main]
#![allow(dead_code)]

#[path = "../../../vmm/src/kvm/virtio/queue.rs"]
mod queue;
#[path = "../../../vmm/src/kvm/virtio/registers.rs"]
#[rustfmt::skip] // Its tests are not below this path.
mod registers;
#[path = "../../../vmm/src/kvm/virtio/status.rs"]
mod status;

use libfuzzer_sys::fuzz_target;
use registers::{Activation, Effect, Registers, Shape};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const STATUS: u64 = 0x70;
const FEATURES: u64 = 1 << 32 | 1 << 29 | 0x3;
const SIZES: [u16; 3] = [128, 1024, 64];

/// What the registers must agree with.
#[derive(Default)]
struct Model {
    live: bool,
    /// Resets that were asked for and have not ended.
    resetting: u32,
}

fuzz_target!(|bytes: &[u8]| {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let shape =
        Shape { id: 4, features: FEATURES, queue_sizes: SIZES.to_vec(), config: vec![7; 40] };
    let (mut registers, mut model) = (Registers::new(shape), Model::default());
    for access in bytes.chunks_exact(8) {
        step(&mut registers, &mut model, access, &memory);
        let status = read_status(&registers);
        assert_eq!(status & status::DRIVER_OK != 0, model.live);
        assert!(status != 0 || model.resetting == 0);
    }
});

/// One access: what, width, offset and value.
fn step(registers: &mut Registers, model: &mut Model, access: &[u8], memory: &GuestMemoryMmap) {
    let width = usize::from(access[1] % 9);
    let offset = u64::from(u16::from_le_bytes([access[2], access[3]]) & 0xfff);
    match access[0] % 8 {
        0..=4 => {
            let data = [&access[4..8], &access[4..8]].concat();
            // The width that most registers take is the likeliest.
            let width = if access[0] % 8 < 4 { 4 } else { width };
            let effect = registers.write(offset, &data[..width]);
            apply(effect, model, memory);
        }
        5 => {
            let mut data = vec![0xaa; width];
            registers.read(offset, &mut data);
        }
        6 => {
            registers.reset_done();
            model.resetting = model.resetting.saturating_sub(1);
        }
        _ => assert!(!registers.fail() || model.live),
    }
}

fn apply(effect: Effect, model: &mut Model, memory: &GuestMemoryMmap) {
    match effect {
        Effect::None => {
            // The reset of a device that is not live has no effect.
        }
        Effect::Activate(activation) => {
            assert!(!model.live);
            model.live = true;
            check(&activation, memory);
        }
        Effect::Reset => {
            assert!(model.live);
            model.live = false;
            model.resetting += 1;
        }
    }
}

fn check(activation: &Activation, memory: &GuestMemoryMmap) {
    assert_eq!(activation.features & !FEATURES, 0);
    assert_ne!(activation.features & 1 << 32, 0);
    for (queue, max) in activation.queues.iter().zip(SIZES) {
        assert!(queue.size.is_power_of_two() && queue.size <= max);
    }
    if activation.fits(memory) {
        for queue in activation.queues.iter().filter(|queue| queue.ready) {
            let end = queue.descriptors + 16 * u64::from(queue.size);
            assert!(end <= 1 << 20);
        }
    }
}

fn read_status(registers: &Registers) -> u8 {
    let mut status = [0xaa; 4];
    registers.read(STATUS, &mut status);
    status[0]
}

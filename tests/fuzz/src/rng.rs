//! Any chains of buffers for the entropy device.
#![no_main]

mod input;

use input::Input;
use libfuzzer_sys::fuzz_target;
use sandbox_devices::mock::{Driver, Part};
use sandbox_devices::{Device, Rng};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut rng = Rng::new();
    let _ = rng.start(0);
    let mut driver = Driver::new(&rng);
    while let Some(parts) = input.byte() {
        let parts: Vec<Part> = (0..parts % 8)
            .map(|_| Part {
                addr: u64::from(input.word()),
                len: u32::from(input.half()),
                write: input.byte().is_some_and(|byte| byte % 2 == 0),
            })
            .collect();
        if !parts.is_empty() {
            driver.chain(0, &parts);
        }
        if rng.kicked(0, &mut driver.io()).is_err() {
            return;
        }
    }
});

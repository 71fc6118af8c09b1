//! The device status field (virtio 1.2, section 2.1) and its legal changes.

/// The guest has noticed the device.
pub const ACKNOWLEDGE: u8 = 1;
/// The guest knows how to drive it.
pub const DRIVER: u8 = 2;
/// The driver is set up.
pub const DRIVER_OK: u8 = 4;
/// The feature negotiation is over.
pub const FEATURES_OK: u8 = 8;
/// The device cannot go on. Set by the device alone.
pub const NEEDS_RESET: u8 = 64;
/// The driver has given up.
pub const FAILED: u8 = 128;

const FOUND: u8 = ACKNOWLEDGE;
const DRIVEN: u8 = FOUND | DRIVER;
const NEGOTIATED: u8 = DRIVEN | FEATURES_OK;
const RUNNING: u8 = NEGOTIATED | DRIVER_OK;

/// What a write of the status register means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The value that is there already.
    Nothing,
    /// A step of the initialization without a condition.
    Step,
    /// FEATURES_OK, to be granted or not.
    Negotiate,
    /// DRIVER_OK: the device goes live.
    Run,
    /// The driver gives up.
    Fail,
    /// Back to the start.
    Reset,
    /// Against the order of section 3.1.1; ignored.
    Illegal,
}

/// The legal changes, in the order of section 3.1.1.
const CHANGES: [(u8, u8, Change); 4] = [
    (0, FOUND, Change::Step),
    (FOUND, DRIVEN, Change::Step),
    (DRIVEN, NEGOTIATED, Change::Negotiate),
    (NEGOTIATED, RUNNING, Change::Run),
];

/// What it means to write `wanted` when the status is `now`. NEEDS_RESET is
/// the device's: drivers write it back as they read it.
pub fn change(now: u8, wanted: u8) -> Change {
    let (now, wanted) = (now & !NEEDS_RESET, wanted & !NEEDS_RESET);
    if wanted == 0 {
        return Change::Reset;
    }
    if now == wanted {
        return Change::Nothing;
    }
    if wanted & FAILED != 0 {
        return Change::Fail;
    }
    let legal = CHANGES.iter().find(|(from, to, _)| (*from, *to) == (now, wanted));
    legal.map_or(Change::Illegal, |(_, _, change)| *change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_way_up_is_step_by_step() {
        for now in 0..=u8::MAX {
            for wanted in 0..=u8::MAX {
                let expected = match (now & !NEEDS_RESET, wanted & !NEEDS_RESET) {
                    (_, 0) => Change::Reset,
                    (a, b) if a == b => Change::Nothing,
                    (_, b) if b & FAILED != 0 => Change::Fail,
                    (0, 1) | (1, 3) => Change::Step,
                    (3, 11) => Change::Negotiate,
                    (11, 15) => Change::Run,
                    _ => Change::Illegal,
                };
                assert_eq!(change(now, wanted), expected, "{now:#x} -> {wanted:#x}");
            }
        }
    }

    #[test]
    fn nothing_but_a_reset_leads_out_of_failed() {
        for wanted in 1..FAILED {
            let out = change(RUNNING | FAILED, wanted);
            assert!(matches!(out, Change::Illegal | Change::Reset), "{wanted:#x}: {out:?}");
        }
    }
}

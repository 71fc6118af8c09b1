//! The machine's I/O ports: the serial console and the keyboard controller,
//! which Linux resets the machine by.

use std::io;

use sandbox_vm_spec::launch::VmEnd;
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};
use vmm_sys_util::eventfd::EventFd;

use super::events::{Event, EventSender};
use crate::console::Console;

/// First port of the serial console, an 8250 (COM1).
const SERIAL: u16 = 0x3f8;
const SERIAL_END: u16 = 0x3ff;
/// Command and status port of the keyboard controller.
const KEYBOARD: u16 = 0x64;
/// "Pulse the reset line".
const KEYBOARD_RESET: u8 = 0xfe;
/// Interrupt of the serial console.
pub const SERIAL_IRQ: u32 = 4;

/// Raises the serial console's interrupt.
#[derive(Debug)]
pub struct Interrupt(pub EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> Result<(), io::Error> {
        self.0.write(1)
    }
}

pub struct Ports {
    serial: Serial<Interrupt, NoEvents, Console>,
    events: EventSender,
    silent: bool,
}

impl Ports {
    /// The ports of a machine whose console goes to `console`.
    pub fn new(interrupt: Interrupt, console: Console, events: EventSender) -> Self {
        Self { serial: Serial::new(interrupt, console), events, silent: true }
    }

    /// The guest reads from `port`: ones where nothing is.
    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        let value = match port {
            SERIAL..=SERIAL_END => self.serial.read((port - SERIAL) as u8),
            // An idle keyboard controller without a keyboard.
            KEYBOARD => 0,
            _ => 0xff,
        };
        data.fill(value);
    }

    /// The guest writes to `port`; returns how the machine ends by that.
    pub fn write(&mut self, port: u16, data: &[u8]) -> Option<VmEnd> {
        match port {
            SERIAL..=SERIAL_END => self.write_serial((port - SERIAL) as u8, data),
            KEYBOARD if data == [KEYBOARD_RESET] => return Some(VmEnd::Reset),
            _ => {}
        }
        None
    }

    /// Writes what the console has of an unfinished line.
    pub fn finish(&mut self) {
        self.serial.writer_mut().finish();
    }

    fn write_serial(&mut self, register: u8, data: &[u8]) {
        for byte in data {
            // The console itself never fails; an interrupt that is raised
            // already is no failure.
            let _ = self.serial.write(register, *byte);
        }
        if self.silent && register == 0 {
            self.silent = false;
            self.events.send(Event::Console);
        }
    }
}

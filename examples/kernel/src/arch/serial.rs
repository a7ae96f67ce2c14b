//! The first serial port: all that the kernel says.

use core::fmt::{self, Write};

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::LSR;
use uart_16550::{BaudRate, Config, Uart16550};

use super::interrupt_lock::InterruptLock;

const COM1: u16 = 0x3f8;

struct Port(Option<Uart16550<PioBackend>>);

static PORT: InterruptLock<Port> = InterruptLock::new(Port(None));

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(port) = &mut self.0 {
            port.send_bytes_exact(text.as_bytes());
        }
        Ok(())
    }
}

/// Takes the serial port into use. Where there is none, what is printed is lost.
pub(crate) fn init() {
    // Bochs simulates the time that a byte takes on the wire.
    let config = Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT };
    // SAFETY: a PC has its first serial port there, and nothing else of the kernel uses it.
    let port = unsafe { Uart16550::new_port(COM1) };
    PORT.with(|slot| slot.0 = port.ok().and_then(|mut port| port.init(config).ok().map(|()| port)));
}

/// Prints, one caller at a time. Called by the macro [`println`].
pub(crate) fn print(arguments: fmt::Arguments<'_>) {
    // Writing to the port cannot fail, and what formatting itself reports has no better place to go.
    PORT.with(|port| port.write_fmt(arguments).unwrap_or(()));
}

/// Waits until all that was printed has left the port.
pub(crate) fn drain() {
    PORT.with(|port| {
        if let Some(port) = &mut port.0 {
            while !port.lsr().contains(LSR::TRANSMITTER_EMPTY) {
                core::hint::spin_loop();
            }
        }
    });
}

/// Makes the port usable for a kernel that stops, whoever was printing.
///
/// # Safety
///
/// The caller is the last one to print.
pub(crate) unsafe fn seize() {
    // SAFETY: as the caller says; another one's text may be garbled.
    unsafe { PORT.force_unlock() };
}

/// Prints a line on the serial port.
macro_rules! println {
    () => { $crate::arch::serial::print(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::arch::serial::print(format_args!("{}\n", format_args!($($argument)*))) };
}

pub(crate) use println;

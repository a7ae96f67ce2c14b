//! Interrupts of the current CPU, on and off.

pub(crate) use x86_64::instructions::interrupts::{are_enabled, disable, enable, enable_and_hlt};

/// Keeps interrupts of the current CPU disabled while it lives; then they are as before.
#[must_use = "interrupts are disabled only while the guard lives"]
pub(crate) struct Disabled {
    were_enabled: bool,
    /// It belongs to the CPU on which it was made.
    _not_send: core::marker::PhantomData<*const ()>,
}

impl Disabled {
    /// Disables interrupts.
    #[inline]
    pub(crate) fn new() -> Self {
        let were_enabled = are_enabled();
        disable();
        Self { were_enabled, _not_send: core::marker::PhantomData }
    }
}

impl Drop for Disabled {
    #[inline]
    fn drop(&mut self) {
        if self.were_enabled {
            enable();
        }
    }
}

/// Runs `f` with interrupts disabled.
#[inline]
pub(crate) fn without<R>(f: impl FnOnce() -> R) -> R {
    let _disabled = Disabled::new();
    f()
}

/// Stops this CPU for good.
pub(crate) fn stop() -> ! {
    disable();
    loop {
        x86_64::instructions::hlt();
    }
}

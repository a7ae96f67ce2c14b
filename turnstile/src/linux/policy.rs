//! Linux's policies and priorities, and the calls that change them.

use libc::{SCHED_BATCH, SCHED_DEADLINE, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR};

use crate::Priority;

/// How a thread runs by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// `SCHED_FIFO` with a priority of 1 to 99; larger is more urgent.
    Fifo(u8),
    /// `SCHED_RR` with a priority of 1 to 99; larger is more urgent.
    RoundRobin(u8),
    /// `SCHED_OTHER` with a nice value of −20 to 19; larger is less urgent.
    Other(i8),
    /// `SCHED_BATCH` with a nice value.
    Batch(i8),
    /// `SCHED_IDLE`.
    Idle,
    /// `SCHED_DEADLINE`: can be met, but not set here.
    Deadline,
}

impl Policy {
    pub(super) fn is_valid(self) -> bool {
        match self {
            Self::Fifo(priority) | Self::RoundRobin(priority) => (1..=99).contains(&priority),
            Self::Other(nice) | Self::Batch(nice) => (-20..=19).contains(&nice),
            Self::Idle => true,
            Self::Deadline => false,
        }
    }

    pub(super) fn level(self) -> u8 {
        match self {
            Self::Idle => 0,
            Self::Other(nice) | Self::Batch(nice) => (20 - nice).clamp(1, 40) as u8,
            Self::Fifo(priority) | Self::RoundRobin(priority) => 100 + priority.min(99),
            Self::Deadline => 200,
        }
    }

    /// How a thread with this policy runs while it is lent `loan`.
    pub(super) fn with(self, loan: Option<Priority>) -> Self {
        let Some(loan) = loan.map(Priority::level).filter(|loan| *loan > self.level()) else { return self };
        match (loan, self) {
            (101.., Self::RoundRobin(_)) => Self::RoundRobin((loan - 100).min(99)),
            (101.., _) => Self::Fifo((loan - 100).min(99)),
            (_, Self::Batch(_)) => Self::Batch(20 - loan.min(40) as i8),
            _ => Self::Other(20 - loan.min(40) as i8),
        }
    }

    pub(super) fn pack(self) -> u32 {
        let (kind, number) = match self {
            Self::Fifo(priority) => (0, priority),
            Self::RoundRobin(priority) => (1, priority),
            Self::Other(nice) => (2, nice.cast_unsigned()),
            Self::Batch(nice) => (3, nice.cast_unsigned()),
            Self::Idle => (4, 0),
            Self::Deadline => (5, 0),
        };
        u32::from_le_bytes([kind, number, 0, 0])
    }

    pub(super) fn unpack(packed: u32) -> Self {
        let [kind, number, ..] = packed.to_le_bytes();
        match kind {
            0 => Self::Fifo(number),
            1 => Self::RoundRobin(number),
            2 => Self::Other(number.cast_signed()),
            3 => Self::Batch(number.cast_signed()),
            4 => Self::Idle,
            _ => Self::Deadline,
        }
    }

    /// What the current thread has.
    pub(super) fn of_current() -> Self {
        let mut parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 names the calling thread; the pointer is to a local of the right type.
        let (policy, nice) = unsafe {
            libc::sched_getparam(0, &raw mut parameters);
            (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0))
        };
        let (priority, nice) = (parameters.sched_priority as u8, nice as i8);
        match policy & !libc::SCHED_RESET_ON_FORK {
            SCHED_FIFO => Self::Fifo(priority),
            SCHED_RR => Self::RoundRobin(priority),
            SCHED_BATCH => Self::Batch(nice),
            SCHED_IDLE => Self::Idle,
            SCHED_DEADLINE => Self::Deadline,
            _ => Self::Other(nice),
        }
    }

    /// Makes thread `tid` run like this; says whether the system agreed. A thread that has ended needs nothing.
    pub(super) fn apply(self, tid: i32) -> bool {
        let (policy, priority, nice) = match self {
            Self::Fifo(priority) => (SCHED_FIFO, priority, None),
            Self::RoundRobin(priority) => (SCHED_RR, priority, None),
            Self::Other(nice) => (SCHED_OTHER, 0, Some(nice)),
            Self::Batch(nice) => (SCHED_BATCH, 0, Some(nice)),
            Self::Idle => (SCHED_IDLE, 0, None),
            Self::Deadline => return true,
        };
        let parameters = libc::sched_param { sched_priority: i32::from(priority) };
        let agreed =
            |result: i32| result == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        // The nice value first: it has no effect under a real-time policy, and is right when that one ends.
        if let Some(nice) = nice {
            // SAFETY: plain numbers.
            let result =
                unsafe { libc::setpriority(libc::PRIO_PROCESS, tid.cast_unsigned(), i32::from(nice)) };
            if !agreed(result) {
                return false;
            }
        }
        // SAFETY: the pointer is to a local of the right type.
        agreed(unsafe { libc::sched_setscheduler(tid, policy, &raw const parameters) })
    }
}

/// Whether the effective capabilities of the calling thread contain `CAP_SYS_NICE` (capget(2), capabilities(7)).
pub(super) fn may_change_others() -> bool {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_SYS_NICE: u32 = 23;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: version 3 of the call writes two elements of `data`, and at most the version into the header.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    result == 0 && data[0].effective & (1 << CAP_SYS_NICE) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_loans() {
        let order = [
            Policy::Idle,
            Policy::Other(19),
            Policy::Batch(0),
            Policy::Other(-20),
            Policy::Fifo(1),
            Policy::RoundRobin(99),
            Policy::Deadline,
        ];
        assert!(order.windows(2).all(|pair| pair[0].level() < pair[1].level()));
        for own in order {
            assert_eq!(Policy::unpack(own.pack()), own);
            for lender in order {
                let lent = own.with(Some(Priority::new(lender.level())));
                assert!(lent.level() >= own.level());
                // Only a loan from a deadline cannot be honoured to the full.
                assert!(lent.level() >= lender.level() || lent.level() == 199);
            }
            assert_eq!(own.with(None), own);
        }
        assert_eq!(Policy::RoundRobin(3).with(Some(Priority::new(150))), Policy::RoundRobin(50));
        assert_eq!(Policy::Idle.with(Some(Priority::new(20))), Policy::Other(0));
        assert_eq!(Policy::unpack(Policy::Other(-7).pack()), Policy::Other(-7));
    }
}

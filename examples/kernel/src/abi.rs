//! What user programs and the kernel agree on. Both sides include this file.
//!
//! A system call has its number in RAX and up to six arguments in RDI, RSI, RDX, R10, R8 and R9; its result is in RAX, and
//! negative if it is an [`Error`]. `syscall` itself overwrites RCX and R11; vector registers are lost, too.

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        #[allow(dead_code, reason = "either side makes only some of them")]
        pub(crate) enum $name {
            $($(#[$variant_doc])* $variant = $value,)*
        }

        impl $name {
            /// The one with this number.
            #[allow(dead_code, reason = "only one of the two sides reads numbers")]
            pub(crate) const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// System calls.
    Call {
        /// Ends the thread, and with the last one the process: (status). The process ends with the last thread's status.
        Exit = 0,
        /// Begins a thread: (entry, stack top, argument, priority, which is below 128).
        Spawn = 1,
        /// Copies the process with the calling thread; the child's identifier, or 0 in the child.
        Fork = 2,
        /// Waits for another process's end: (process, where its status goes).
        Wait = 3,
        /// Maps memory: (address, pages, rights, [`Backing`], first page of a file).
        Map = 4,
        /// Unmaps: (address, pages).
        Unmap = 5,
        /// Changes rights: (address, pages, rights).
        Protect = 6,
        /// Gives a hint: (address, pages, [`Hint`]).
        Advise = 7,
        /// Lets others run.
        Yield = 8,
        /// Sleeps: (ticks).
        Sleep = 9,
        /// Ticks since the kernel started.
        Ticks = 10,
        /// The CPU that the thread runs on.
        Cpu = 11,
        /// Prints: (address, bytes).
        Write = 12,
        /// Says where to go on after a fault that cannot be resolved: (first instruction, end, where to go on).
        Recover = 13,
        /// Reports corruption: ([`Finding`], address, what was expected, what was there).
        Report = 14,
        /// Adds to the run's counters: ([`Tally`], how many).
        Tally = 15,
        /// Tells what something took: ([`Figure`], pages, counts of the time-stamp counter).
        Figure = 16,
    }
}

numbered! {
    /// What a mapping shows.
    Backing {
        /// Private memory, zero at first.
        Anonymous = 0,
        /// Memory that all processes of the run share.
        Shared = 1,
        /// The file that the program came from; private copies are made for stores.
        File = 2,
    }
}

numbered! {
    /// A hint about a range.
    Hint {
        /// Will not be used soon.
        Idle = 0,
        /// Take its frames.
        PageOut = 1,
    }
}

numbered! {
    /// What is wrong.
    Finding {
        /// A page does not hold what its owner put there.
        Stamp = 0,
        /// New memory is not zero.
        NotZero = 1,
        /// A page changed after the right to write had been taken away.
        ReadOnlyChanged = 2,
        /// A store was possible that should not be, or none that should.
        Rights = 3,
        /// A copy of a process sees what the original did later.
        CopyChanged = 4,
        /// A word of shared memory does not hold what was put there.
        SharedWord = 5,
        /// A page of a file changed.
        FileChanged = 6,
        /// A child did not end as it should.
        Child = 7,
        /// A system call failed that should not.
        CallFailed = 8,
    }
}

numbered! {
    /// What is counted.
    Tally {
        /// Steps of the workload.
        Steps = 0,
        /// Pages that were compared with their stamps.
        PagesChecked = 1,
        /// Stores through mappings that another thread may be taking away.
        WildStores = 2,
        /// Those that met a fault instead.
        WildFaults = 3,
        /// Processes copied.
        Forks = 4,
    }
}

numbered! {
    /// Which part of the program a process plays.
    Role {
        /// Looks whether user mode is what it should be; the status is the number of checks that fail.
        Check = 0,
        /// The torture.
        Torture = 1,
        /// Unmaps in long batches while other threads store.
        Unmapper = 2,
        /// Measures what calls and page faults take.
        Figures = 3,
        /// Sleeps for ever, and has a copy wait for its end: only by being ended from outside they end.
        Rest = 4,
    }
}

numbered! {
    /// What is measured.
    Figure {
        /// Nothing: a measurement begins.
        Begin = 0,
        /// A system call that does nothing, so many times.
        Call = 1,
        /// The first store to private memory, on each page.
        ZeroFault = 2,
        /// The first load from shared memory that is in its frames already.
        ResidentFault = 3,
        /// Taking away the right to write.
        Protect = 4,
        /// Unmapping.
        Unmap = 5,
        /// A fork, until the parent goes on.
        Fork = 6,
        /// The first store to pages that the child has, too.
        CopyFault = 7,
    }
}

numbered! {
    /// Why a system call failed; returned negated.
    Error {
        /// No such call, or arguments that make no sense.
        Invalid = 1,
        /// Something is mapped there, or nothing is.
        Address = 2,
        /// No memory, or as much of something as there may be.
        Memory = 3,
        /// No such process.
        NoChild = 4,
    }
}

/// Rights: may be read.
pub(crate) const READ: u64 = 1;
/// Rights: may be written.
pub(crate) const WRITE: u64 = 2;

//! Segments, task state and interrupt gates.
//!
//! Every gate that is in use has a stack of its own to begin on, because the prebuilt core library keeps values below its
//! stack pointer (the red zone), where the processor would write otherwise. See `trap.s`.

use alloc::boxed::Box;
use core::cell::UnsafeCell;

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::{Entry, HandlerFunc};
use x86_64::structures::tss::TaskStateSegment;

use super::{trap, undisturbed};

/// Selector of the kernel's code.
pub(crate) const KERNEL_CODE: u16 = 0x08;
/// Selector of the kernel's data.
const KERNEL_DATA: u16 = 0x10;
/// Selector of user programs' data.
pub(crate) const USER_DATA: u16 = 0x18 | 3;
/// Selector of user programs' code.
pub(crate) const USER_CODE: u16 = 0x20 | 3;

/// Bytes of a stack on which gates begin.
const GATE_STACK: usize = 16 * 1024;

/// The stacks of gates, by their index in the task state.
#[derive(Clone, Copy)]
enum GateStack {
    /// All others: left at once for the stack of the thread.
    Common = 0,
    DoubleFault = 1,
    NonMaskable = 2,
    MachineCheck = 3,
}

struct Gates(UnsafeCell<[Entry<HandlerFunc>; 256]>);

// SAFETY: written by the boot CPU before there is another one; then only the processors read.
unsafe impl Sync for Gates {}

static GATES: Gates = Gates(UnsafeCell::new([const { Entry::missing() }; 256]));

/// Fills the interrupt gates, which all CPUs share.
///
/// # Safety
///
/// Called once, on the boot CPU, before [`load`] on any.
pub(crate) unsafe fn init_gates() {
    // SAFETY: nobody else uses them yet.
    let gates = unsafe { &mut *GATES.0.get() };
    for (vector, gate) in gates.iter_mut().enumerate() {
        let stack = match vector {
            trap::DOUBLE_FAULT => GateStack::DoubleFault,
            trap::NON_MASKABLE => GateStack::NonMaskable,
            trap::MACHINE_CHECK => GateStack::MachineCheck,
            _ => GateStack::Common,
        };
        // SAFETY: the stub of this vector, which is made for a gate; the stack is in every task state.
        unsafe {
            let options = gate.set_handler_addr(VirtAddr::new(trap::stub_address(vector)));
            options.set_code_selector(selector(KERNEL_CODE)).set_stack_index(stack as u16);
        }
    }
    let mut bare = Entry::missing();
    // SAFETY: made for a gate. It has no stack of its own, which harms nobody but the one who enters it.
    unsafe {
        let options = bare.set_handler_addr(VirtAddr::new(undisturbed::bare_entry_address()));
        options.set_code_selector(selector(KERNEL_CODE));
    }
    gates[undisturbed::BARE_GATE] = bare;
}

/// Loads segments, task state and gates on this CPU, which keeps them for ever.
pub(crate) fn load() {
    let mut task = TaskStateSegment::new();
    // The structure is packed: no reference to a part of it.
    let mut stacks = task.interrupt_stack_table;
    for stack in stacks.iter_mut().take(GateStack::MachineCheck as usize + 1) {
        let memory = Box::leak(Box::<[u128; GATE_STACK / 16]>::new_uninit());
        *stack = VirtAddr::new(memory.as_ptr() as u64 + GATE_STACK as u64);
    }
    task.interrupt_stack_table = stacks;
    let mut table = GlobalDescriptorTable::new();
    table.append(Descriptor::kernel_code_segment());
    table.append(Descriptor::kernel_data_segment());
    table.append(Descriptor::user_data_segment());
    table.append(Descriptor::user_code_segment());
    let task = table.append(Descriptor::tss_segment(Box::leak(Box::new(task))));
    let table: &'static GlobalDescriptorTable = Box::leak(Box::new(table));
    table.load();
    // SAFETY: the table has these segments, and stays.
    unsafe {
        CS::set_reg(selector(KERNEL_CODE));
        SS::set_reg(selector(KERNEL_DATA));
        DS::set_reg(selector(KERNEL_DATA));
        ES::set_reg(selector(KERNEL_DATA));
        load_tss(task);
    }
    let limit = (size_of::<Gates>() - 1) as u16;
    let gates = DescriptorTablePointer { limit, base: VirtAddr::new(GATES.0.get() as u64) };
    // SAFETY: `init_gates` has filled them, and they stay.
    unsafe { lidt(&gates) };
}

const fn selector(bits: u16) -> SegmentSelector {
    SegmentSelector(bits)
}

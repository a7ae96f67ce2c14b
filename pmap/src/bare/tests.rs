use core::ptr::NonNull;
use std::vec::Vec;

use super::cache::Lines;
use super::control::check;
use super::instructions::invlpgb_operands;
use super::recorded::{self, Record};
use super::*;
use crate::translation::{Invlpgb, Pcid, Stride, TlbFeatures};
use crate::{TlbChoice, TlbMethod, VirtAddr};

fn features(record: &Record) -> CpuFeatures {
    CpuFeatures::from_cpuid(&recorded::cpuid(record))
}

#[test]
fn features_are_where_the_manuals_have_them() {
    let epyc = features(&recorded::EPYC);
    let has = Features::NX
        | Features::GIB_PAGES
        | Features::PGE
        | Features::PCID
        | Features::INVPCID
        | Features::CX16;
    let has = has | Features::SMEP | Features::SMAP | Features::UMIP | Features::FSGSBASE | Features::X2APIC;
    let has = has
        | Features::CLFLUSH
        | Features::CLFLUSHOPT
        | Features::CLWB
        | Features::SYSCALL
        | Features::HYPERVISOR;
    assert!(epyc.has(has), "{:?}", has - epyc.features);
    let lacks = Features::INVLPGB
        | Features::LA57
        | Features::PKU
        | Features::VMX
        | Features::SELF_SNOOP
        | Features::HYBRID;
    assert!(!epyc.features.intersects(lacks));
    assert_eq!(
        (epyc.vendor, epyc.cache_line, epyc.physical_bits, epyc.virtual_bits),
        (Vendor::Amd, 64, 48, 48)
    );

    let max = features(&recorded::QEMU_MAX);
    let has = Features::LA57
        | Features::PKU
        | Features::PKS
        | Features::NX
        | Features::GIB_PAGES
        | Features::SELF_SNOOP;
    assert!(max.has(has | Features::SVM | Features::UMIP | Features::CLWB), "{max:?}");
    assert!(!max.features.intersects(Features::PCID | Features::INVPCID | Features::X2APIC));
    assert_eq!((max.physical_bits, max.virtual_bits), (40, 57));
    let poor = features(&recorded::QEMU_NO_NX).features;
    assert_eq!(max.features - poor, Features::NX | Features::GIB_PAGES);

    let skylake = features(&recorded::BOCHS_SKYLAKE_X);
    assert!(
        skylake.has(Features::PCID | Features::INVPCID | Features::X2APIC | Features::VMX | Features::NX)
    );
    assert_eq!(skylake.vendor, Vendor::Intel);
    let athlon = features(&recorded::BOCHS_ATHLON_64);
    assert!(athlon.has(Features::NX | Features::PGE | Features::SYSCALL | Features::LONG_MODE));
    assert!(
        !athlon.features.intersects(Features::CX16 | Features::GIB_PAGES | Features::PCID | Features::XSAVE)
    );
    assert!(!features(&recorded::QEMU_NO_CX16).has(Features::CX16));
}

/// Processors answer for leaves that they do not have with the last one's numbers.
#[test]
fn leaves_that_do_not_exist_say_nothing() {
    let opteron = recorded::cpuid(&recorded::QEMU_OPTERON);
    assert_eq!((opteron.structured, opteron.hybrid), Default::default());
    assert!(!CpuFeatures::from_cpuid(&opteron).has(Features::UMIP));
    assert_eq!(recorded::cpuid(&recorded::QEMU_MAX).hybrid, Registers::default());
    // Without any extended leaf, the answer for them is a basic one's.
    let ancient =
        Cpuid::read(|leaf, _| Registers { eax: 2, edx: u32::MAX, ecx: leaf, ..Registers::default() });
    assert_eq!((ancient.extended, ancient.widths), Default::default());
    let ancient = CpuFeatures::from_cpuid(&ancient);
    assert_eq!((ancient.physical_bits, ancient.virtual_bits), (36, 48));
}

#[test]
fn the_processor_of_this_test_is_read() {
    let here = CpuFeatures::current();
    assert!(here.has(Features::LONG_MODE | Features::SSE | Features::PAE | Features::CLFLUSH), "{here:?}");
    assert!(here.cache_line.is_power_of_two() && here.physical_bits >= 36 && here.virtual_bits >= 48);
    assert_eq!(here.has(Features::CX16), std::is_x86_feature_detected!("cmpxchg16b"));
    assert_eq!(here.common(&here), here);
}

#[test]
fn the_pmap_hears_of_what_all_have() {
    let none = TlbFeatures::NONE;
    let all = TlbFeatures { pcids: Pcid::COUNT, invpcid: true, invlpgb: Some(7) };
    let epyc = features(&recorded::EPYC);
    let broadcaster = features(&recorded::with_invlpgb(7));
    assert_eq!(features(&recorded::BOCHS_ATHLON_64).tlb_features(), none);
    assert_eq!(features(&recorded::QEMU_MAX).tlb_features(), none);
    assert_eq!(epyc.tlb_features(), TlbFeatures { invlpgb: None, ..all });
    assert_eq!(broadcaster.tlb_features(), all);
    assert_eq!(TlbChoice::best(broadcaster.tlb_features()), TlbMethod::Invlpgb);
    let fewer = broadcaster.common(&features(&recorded::with_invlpgb(3)));
    assert_eq!(fewer.tlb_features().invlpgb, Some(3));
    let mixed = broadcaster.common(&epyc);
    assert_eq!(mixed.tlb_features(), epyc.tlb_features());
    assert_eq!(epyc.common(&features(&recorded::BOCHS_SKYLAKE_X)).vendor, Vendor::Other);
    // What is taken out is out, wherever it counts.
    let mut without = features(&recorded::BOCHS_ATHLON_64);
    assert_eq!(CacheMethod::best(&without), CacheMethod::Clflush);
    without.features -= Features::CLFLUSH;
    assert_eq!(CacheMethod::best(&without), CacheMethod::Wbinvd);
    let mut without = epyc;
    without.features -= Features::PCID;
    assert_eq!(without.tlb_features().pcids, 0);
    let mut without_globals = epyc;
    without_globals.features -= Features::PGE;
    assert_eq!(without_globals.tlb_features().pcids, 0, "an INVLPG would miss the kernel's translations");
    assert!(!without.cr4().contains(Cr4Flags::PCID) && epyc.cr4().contains(Cr4Flags::PCID));
}

#[test]
fn small_cores_of_hybrid_processors_are_known() {
    let small = features(&recorded::alder_lake(0x2000_0001));
    let large = features(&recorded::alder_lake(0x4000_0001));
    assert!(small.invlpg_misses_globals() && !large.invlpg_misses_globals());
    assert!(small.has(Features::HYBRID) && small.common(&large).invlpg_misses_globals());
    let mut without = small;
    without.features -= Features::PCID;
    assert!(!without.invlpg_misses_globals(), "only while PCIDs are on");
    // A hypervisor hides the kind of core, or tells that of another one than the guest runs on a moment later.
    for hybrid in [0, 0x4000_0001] {
        let mut guest = recorded::alder_lake(hybrid);
        guest[1][2] |= 1 << 31;
        assert!(features(&guest).invlpg_misses_globals(), "{hybrid:#x}");
    }
    let mut n_series = recorded::BOCHS_SKYLAKE_X;
    n_series[1][0] = 0x000b_06e0;
    assert!(features(&n_series).invlpg_misses_globals());
    for other in [recorded::BOCHS_SKYLAKE_X, recorded::EPYC, recorded::QEMU_MAX] {
        assert!(!features(&other).invlpg_misses_globals());
    }
}

#[test]
fn only_bits_that_are_offered_may_be_set() {
    let smap = Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION;
    let max = features(&recorded::QEMU_MAX);
    assert!(
        max.cr4().contains(smap | Cr4Flags::PAGE_GLOBAL | Cr4Flags::OSFXSR | Cr4Flags::PROTECTION_KEY_USER)
    );
    assert!(!max.cr4().intersects(Cr4Flags::PCID | Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS));
    assert!(!max.cr4().contains(Cr4Flags::CONTROL_FLOW_ENFORCEMENT));
    let athlon = features(&recorded::BOCHS_ATHLON_64).cr4();
    assert_eq!(athlon.bits(), 0x7ff & !(1 << 11), "what the first of them had: {athlon:?}");
    let efer = features(&recorded::QEMU_NO_NX).efer();
    assert!(!efer.contains(EferFlags::NO_EXECUTE_ENABLE) && efer.contains(EferFlags::SYSTEM_CALL_EXTENSIONS));
    assert!(max.efer().contains(EferFlags::NO_EXECUTE_ENABLE));
    assert_eq!(check(smap.bits(), max.cr4().bits()), Ok(()));
    let refused = check((smap | Cr4Flags::PAGE_GLOBAL).bits(), athlon.bits());
    assert_eq!(refused, Err(ForbiddenBits(smap.bits())));
}

#[test]
fn the_table_holds_the_best_instructions_unless_others_are_wished_for() {
    // SAFETY: nothing of the tables is called.
    let choose = |record: &Record, wishes| unsafe { Dispatch::new(features(record), wishes) };
    let best = |record: &Record| {
        let table = choose(record, Overrides::default()).unwrap();
        (table.full_flush(), table.cache_method())
    };
    assert_eq!(best(&recorded::EPYC), (FullFlush::Invpcid, CacheMethod::Clflushopt));
    assert_eq!(best(&recorded::QEMU_MAX), (FullFlush::GlobalPages, CacheMethod::Clflushopt));
    assert_eq!(best(&recorded::BOCHS_ATHLON_64), (FullFlush::GlobalPages, CacheMethod::Clflush));
    let mut bare = recorded::BOCHS_ATHLON_64;
    bare[1][3] &= !(1 << 13 | 1 << 19);
    assert_eq!(best(&bare), (FullFlush::Cr3, CacheMethod::Wbinvd));
    assert!(CacheMethod::Wbinvd.is_local());

    let full = |full_flush| Overrides { full_flush: Some(full_flush), ..Overrides::default() };
    let table = choose(&recorded::EPYC, full(FullFlush::GlobalPages)).unwrap();
    assert_eq!(table.full_flush(), FullFlush::GlobalPages);
    // A load of CR3 would leave global translations.
    let refused = choose(&recorded::EPYC, full(FullFlush::Cr3)).unwrap_err();
    assert_eq!(refused, Unavailable::FullFlush(FullFlush::Cr3));
    assert!(choose(&recorded::QEMU_MAX, full(FullFlush::Invpcid)).is_err());
    let clflushopt = Overrides { cache: Some(CacheMethod::Clflushopt), ..Overrides::default() };
    assert!(choose(&recorded::BOCHS_ATHLON_64, clflushopt).is_err());
    let snoops = choose(&recorded::QEMU_MAX, Overrides::default()).unwrap();
    assert!(!snoops.memory_type_change_needs_flush() && table.memory_type_change_needs_flush());
}

#[test]
fn operands_of_invlpgb_are_the_manuals() {
    let all = Invlpgb { va: None, more: 0, stride: Stride::Page, pcid: None, globals: true };
    assert_eq!(invlpgb_operands(all), (0b1000, 0, 0));
    let pages = Invlpgb { va: Some(VirtAddr(0xffff_8000_1234_5678)), more: 5, ..all };
    assert_eq!(invlpgb_operands(pages), (0xffff_8000_1234_5009, 5, 0));
    let large = Invlpgb { stride: Stride::LargePage, pcid: Pcid::new(0xabc), globals: false, ..pages };
    assert_eq!(invlpgb_operands(large), (0xffff_8000_1234_5003, 0x8000_0005, 0x0abc_0000));
}

/// The instructions for cache lines need no privilege, so they are executed here; memory must stay what it is.
#[test]
fn flushing_lines_leaves_memory_as_it_is() {
    let here = CpuFeatures::current();
    let bytes: Vec<u8> = (0..4096_u32).map(|i| i as u8).collect();
    let methods = CacheMethod::ALL.into_iter().filter(|m| m.is_possible(&here) && *m != CacheMethod::Wbinvd);
    let mut tried = 0;
    for method in methods {
        for vendor in [Vendor::Intel, Vendor::Other] {
            let mut features = here;
            features.vendor = vendor;
            let lines = Lines::of(method, &features);
            for (offset, count) in [(0, 4096), (1, 1), (63, 2), (100, 0), (4095, 1)] {
                let start = NonNull::from(&bytes[offset]);
                // SAFETY: the processor has the instructions, and the memory is the vector's.
                unsafe {
                    lines.flush(start, count);
                    lines.write_back(start, count);
                }
            }
            tried += 1;
        }
    }
    assert!(tried > 0);
    assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == i as u8));
}

/// H-33.
#[test]
fn every_loop_of_weakly_ordered_instructions_is_fenced() {
    for record in [recorded::EPYC, recorded::QEMU_MAX, recorded::BOCHS_SKYLAKE_X, recorded::BOCHS_ATHLON_64] {
        let features = features(&record);
        for method in CacheMethod::ALL.into_iter().filter(|method| method.is_possible(&features)) {
            let lines = Lines::of(method, &features);
            let ordered = method == CacheMethod::Clflush && features.vendor == Vendor::Intel;
            assert_eq!((lines.flush.fenced, lines.write_back.fenced), (!ordered, !ordered), "{method}");
        }
    }
}

#[test]
fn names_say_what_is_meant() {
    let names: Vec<&str> = Features::all().iter_names().map(|(name, _)| name).collect();
    assert!(names.contains(&"INVPCID") && names.contains(&"GIB_PAGES"));
    let error = std::string::ToString::to_string(&Unavailable::Cache(CacheMethod::Clflushopt));
    assert!(error.contains("clflushopt"), "{error}");
}

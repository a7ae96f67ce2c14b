//! CPUID as processors gave it, and emulators: leaf 0, 1, 7, 1AH, 8000_0000H, 8000_0001H, 8000_0008H, each EAX to EDX. Emulators' were read
//! in real mode, where Intel's do not own up to SYSCALL. A leaf that does not exist holds what the processor gave all the same.

use super::cpuid::{Cpuid, Registers};

pub(super) type Record = [[u32; 4]; 7];

const LEAVES: [u32; 7] = [0, 1, 7, 0x1a, 0x8000_0000, 0x8000_0001, 0x8000_0008];

pub(super) fn cpuid(record: &Record) -> Cpuid {
    Cpuid::read(|leaf, subleaf| {
        assert_eq!(subleaf, 0);
        let at = LEAVES.iter().position(|known| *known == leaf).expect("a leaf that was recorded");
        let [eax, ebx, ecx, edx] = record[at];
        Registers { eax, ebx, ecx, edx }
    })
}

/// An AMD EPYC 9004 (Zen 4) under a hypervisor.
pub(super) const EPYC: Record = [
    [0x0000_001c, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x00a1_0f11, 0x0102_0800, 0xfffa_3203, 0x178b_fbff],
    [0x0000_0001, 0xf1bf_07ab, 0x0040_5fc6, 0x0000_0010],
    [0, 0, 0, 0],
    [0x8000_0021, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x00a1_0f11, 0x4000_0000, 0x0040_03f3, 0x2fd3_fbff],
    [0x0030_3030, 0x5002_0005, 0x0000_7001, 0],
];

/// QEMU 7.2, `max`.
pub(super) const QEMU_MAX: Record = [
    [0x0000_000d, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0006_0fb1, 0x0000_0800, 0xf6d8_320b, 0x0fcb_fbfd],
    [0, 0x01d8_43a9, 0x8001_020c, 0],
    [0x0000_021f, 0x0000_0240, 0x0000_0a88, 0],
    [0x8000_000a, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0006_0fb1, 0, 0x0000_0075, 0xedd3_fbfd],
    [0x0000_3928, 0, 0, 0],
];

/// QEMU 7.2, `max,-nx,-pdpe1gb`.
pub(super) const QEMU_NO_NX: Record = {
    let mut record = QEMU_MAX;
    record[5][3] = 0xe9c3_fbfd;
    record
};

/// QEMU 7.2, `qemu64,-cx16`.
pub(super) const QEMU_NO_CX16: Record = [
    [0x0000_000d, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0006_0fb1, 0x0000_0800, 0x8000_0001, 0x078b_fbfd],
    [0, 0, 0, 0],
    [0, 0, 0, 0],
    [0x8000_000a, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0006_0fb1, 0, 0x0000_0005, 0x2193_fbfd],
    [0x0000_3028, 0, 0, 0],
];

/// QEMU 7.2, `Opteron_G1`: has no leaf 7, and gives leaf 5's instead.
pub(super) const QEMU_OPTERON: Record = [
    [0x0000_0005, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0000_0f61, 0x0000_0800, 0x8000_0001, 0x078b_fbfd],
    [0, 0, 0x0000_0003, 0],
    [0, 0, 0x0000_0003, 0],
    [0x8000_0008, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0000_0f61, 0, 0, 0x2193_fbfd],
    [0x0000_3028, 0, 0, 0],
];

/// Bochs 2.7, `corei7_skylake_x`: leaf 1AH is beyond the last one, 16H, whose it gives.
pub(super) const BOCHS_SKYLAKE_X: Record = [
    [0x0000_0016, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
    [0x0005_0654, 0x0001_0800, 0x77fa_f3bf, 0xbfeb_fbff],
    [0, 0xd19f_27eb, 0, 0],
    [0x0000_0dac, 0x0000_0fa0, 0x0000_0064, 0],
    [0x8000_0008, 0, 0, 0],
    [0, 0, 0x0000_0121, 0x2c10_0000],
    [0x0000_3028, 0, 0, 0],
];

/// Bochs 2.7, `athlon64_clawhammer`.
pub(super) const BOCHS_ATHLON_64: Record = [
    [0x0000_0001, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0000_0f48, 0x0000_0800, 0, 0x078b_fbff],
    [0, 0, 0, 0],
    [0, 0, 0, 0],
    [0x8000_0018, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
    [0x0000_0f48, 0x0000_0106, 0, 0xe1d3_fbff],
    [0x0000_3028, 0, 0, 0],
];

/// A core of an Alder Lake, of the kind in `hybrid`: [`BOCHS_SKYLAKE_X`] with the signature, leaf 7 EDX 15 and leaf 1AH that the manual gives.
pub(super) fn alder_lake(hybrid: u32) -> Record {
    let mut record = BOCHS_SKYLAKE_X;
    record[0][0] = 0x20;
    record[1][0] = 0x0009_0672;
    record[2][3] |= 1 << 15;
    record[3] = [hybrid, 0, 0, 0];
    record
}

/// A processor with INVLPGB: [`EPYC`] with leaf 8000_0008H as the manual has it, whose hypervisor hides it.
pub(super) fn with_invlpgb(more: u16) -> Record {
    let mut record = EPYC;
    record[6][1] |= 1 << 3;
    record[6][3] = 0x0001_0000 | u32::from(more);
    record
}

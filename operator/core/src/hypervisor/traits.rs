//! What can a host do, by the names of OpenStack's os-traits? And which names are there?

use std::collections::BTreeSet;

use crate::{
    flavor::{DeviceFacts, device_traits, known_device_traits},
    nearest::did_you_mean,
};

/// What the names of operators' own traits and resource classes begin with.
const CUSTOM: &str = "CUSTOM_";
/// Placement's longest name.
const LONGEST: usize = 255;

const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "HW_ARCH_X86_64"), ("aarch64", "HW_ARCH_AARCH64")];

/// libvirt's names of features of x86 processors, with the traits of each: Nova's `CPU_TRAITS_MAPPING`, with libvirt's own
/// name of SSE3, and the two of os-traits that Nova leaves out.
const X86: [(&str, &str); 45] = [
    ("3dnow", "HW_CPU_X86_3DNOW"),
    ("abm", "HW_CPU_X86_ABM"),
    ("aes", "HW_CPU_X86_AESNI"),
    ("avx", "HW_CPU_X86_AVX"),
    ("avx2", "HW_CPU_X86_AVX2"),
    ("avx512-vpopcntdq", "HW_CPU_X86_AVX512VPOPCNTDQ"),
    ("avx512bitalg", "HW_CPU_X86_AVX512BITALG"),
    ("avx512bw", "HW_CPU_X86_AVX512BW"),
    ("avx512cd", "HW_CPU_X86_AVX512CD"),
    ("avx512dq", "HW_CPU_X86_AVX512DQ"),
    ("avx512er", "HW_CPU_X86_AVX512ER"),
    ("avx512f", "HW_CPU_X86_AVX512F"),
    ("avx512ifma", "HW_CPU_X86_AVX512IFMA"),
    ("avx512pf", "HW_CPU_X86_AVX512PF"),
    ("avx512vbmi", "HW_CPU_X86_AVX512VBMI"),
    ("avx512vbmi2", "HW_CPU_X86_AVX512VBMI2"),
    ("avx512vl", "HW_CPU_X86_AVX512VL"),
    ("avx512vnni", "HW_CPU_X86_AVX512VNNI"),
    ("bmi1", "HW_CPU_X86_BMI"),
    ("bmi2", "HW_CPU_X86_BMI2"),
    ("f16c", "HW_CPU_X86_F16C"),
    ("fma", "HW_CPU_X86_FMA3"),
    ("fma4", "HW_CPU_X86_FMA4"),
    ("gfni", "HW_CPU_X86_AVX512GFNI"),
    ("mmx", "HW_CPU_X86_MMX"),
    ("mpx", "HW_CPU_X86_MPX"),
    ("pclmuldq", "HW_CPU_X86_CLMUL"),
    ("pdpe1gb", "HW_CPU_X86_PDPE1GB"),
    ("pni", "HW_CPU_X86_SSE3"),
    ("sha-ni", "HW_CPU_X86_SHA"),
    ("sse", "HW_CPU_X86_SSE"),
    ("sse2", "HW_CPU_X86_SSE2"),
    ("sse4.1", "HW_CPU_X86_SSE41"),
    ("sse4.2", "HW_CPU_X86_SSE42"),
    ("sse4a", "HW_CPU_X86_SSE4A"),
    ("ssse3", "HW_CPU_X86_SSSE3"),
    ("stibp", "HW_CPU_X86_STIBP"),
    ("svm", "HW_CPU_X86_SVM"),
    ("svm", "HW_CPU_X86_AMD_SVM"),
    ("tbm", "HW_CPU_X86_TBM"),
    ("vaes", "HW_CPU_X86_AVX512VAES"),
    ("vmx", "HW_CPU_X86_VMX"),
    ("vmx", "HW_CPU_X86_INTEL_VMX"),
    ("vpclmulqdq", "HW_CPU_X86_AVX512VPCLMULQDQ"),
    ("xop", "HW_CPU_X86_XOP"),
];

/// What traits are read from.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraitFacts<'a> {
    /// As libvirt calls it.
    pub architecture: &'a str,
    /// libvirt's names of the processor's features.
    pub features: &'a [String],
    /// Whether guests run on the host's processor (KVM), and not on one that QEMU emulates.
    pub native: bool,
    /// The devices that guests can have.
    pub devices: DeviceFacts<'a>,
}

/// The traits of a host, in order. A processor's features count only when guests run on it: an emulated one has its own.
pub fn traits(facts: TraitFacts<'_>) -> Vec<String> {
    let architecture = ARCHITECTURES.iter().find(|(name, _)| *name == facts.architecture);
    let x86 = facts.native && facts.architecture == "x86_64";
    let has = |feature: &str| facts.features.iter().any(|found| found == feature);
    let features = X86.iter().filter(|(feature, _)| x86 && has(feature));
    let of_cpu = architecture
        .into_iter()
        .chain(features)
        .map(|(_, name)| (*name).to_owned());
    let mut found: BTreeSet<String> = of_cpu.collect();
    found.extend(device_traits(facts.devices));
    found.into_iter().collect()
}

/// Every trait that a host may be found to have.
fn known() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES
        .iter()
        .chain(&X86)
        .map(|(_, name)| *name)
        .chain(known_device_traits())
}

/// Why no host can have a trait of this name.
pub fn check_trait(name: &str) -> Result<(), String> {
    if is_custom(name) || known().any(|known| known == name) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no trait that a host can have: those of your own begin with {CUSTOM}, in capitals, digits and '_'{}",
        did_you_mean(name, known())
    ))
}

/// Why no host can have an inventory of this class.
pub fn check_resource_class(name: &str) -> Result<(), String> {
    if is_custom(name) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no resource class: those of your own begin with {CUSTOM}, in capitals, digits and '_'"
    ))
}

fn is_custom(name: &str) -> bool {
    let own = name.strip_prefix(CUSTOM).unwrap_or_default();
    let may_be = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
    !own.is_empty() && name.len() <= LONGEST && own.bytes().all(may_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(facts: TraitFacts<'_>) -> String {
        traits(facts).join(" ")
    }

    #[test]
    fn a_processor_s_features_have_the_names_of_os_traits() {
        let features = ["aes", "sse4.2", "vmx", "invtsc"].map(str::to_owned);
        let facts = TraitFacts {
            architecture: "x86_64",
            features: &features,
            native: true,
            devices: DeviceFacts {
                secure_boot: true,
                ..DeviceFacts::default()
            },
        };
        assert_eq!(
            of(facts),
            "COMPUTE_SECURITY_UEFI_SECURE_BOOT HW_ARCH_X86_64 HW_CPU_X86_AESNI HW_CPU_X86_INTEL_VMX \
             HW_CPU_X86_SSE42 HW_CPU_X86_VMX"
        );
        let emulated = TraitFacts {
            native: false,
            devices: DeviceFacts::default(),
            ..facts
        };
        assert_eq!(
            of(emulated),
            "HW_ARCH_X86_64",
            "guests don't run on the host's processor"
        );
        let arm = TraitFacts {
            architecture: "aarch64",
            ..facts
        };
        assert_eq!(of(arm), "COMPUTE_SECURITY_UEFI_SECURE_BOOT HW_ARCH_AARCH64");
        assert_eq!(
            of(TraitFacts {
                architecture: "s390x",
                ..facts
            }),
            "COMPUTE_SECURITY_UEFI_SECURE_BOOT"
        );
    }

    #[test]
    fn names_that_no_host_can_have_are_told_apart() {
        for name in [
            "CUSTOM_SSD",
            "CUSTOM_1",
            "HW_CPU_X86_AVX2",
            "HW_ARCH_AARCH64",
            "COMPUTE_SECURITY_TPM_2_0",
            "COMPUTE_STORAGE_BUS_SATA",
        ] {
            assert_eq!(check_trait(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "CUSTOM_",
            "CUSTOM_ssd",
            "custom_SSD",
            "CUSTOM-SSD",
            "HW_CPU_X86_MAGIC",
        ] {
            assert!(check_trait(name).is_err(), "{name}");
        }
        assert!(check_trait(&format!("CUSTOM_{}", "A".repeat(300))).is_err());
        assert!(check_resource_class("CUSTOM_FPGA").is_ok() && check_resource_class("VGPU").is_err());
    }
}

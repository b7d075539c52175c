//! libvirt's typed parameters: a list of named values.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};

use virt::sys;

/// More than any answer of ours has; libvirt's own protocol has a bound of this order.
const MOST: usize = 16 * 1024;
/// A guest may have put megabytes into a text.
const TEXT_BYTES: usize = 4096;

/// The values of an answer, by name.
#[derive(Debug, Default)]
pub(super) struct Params {
    numbers: HashMap<String, u64>,
    texts: HashMap<String, String>,
}

impl Params {
    /// Copies an answer.
    ///
    /// # Safety
    /// `params` points to `count` valid parameters, or is null with a count of 0.
    pub unsafe fn copy(params: sys::virTypedParameterPtr, count: c_int) -> Params {
        let mut copied = Params::default();
        let count = usize::try_from(count).unwrap_or_default().min(MOST);
        if params.is_null() || count == 0 {
            return copied;
        }
        // SAFETY: see the contract of this function; only the first `count` are read.
        for param in unsafe { std::slice::from_raw_parts(params, count) } {
            // The name has its end inside its 80 bytes: libvirt sees to that.
            let bytes = param.field.map(c_char::cast_unsigned);
            let Ok(name) = CStr::from_bytes_until_nul(&bytes) else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            let number = match param.type_.cast_unsigned() {
                // SAFETY: the type says which of the union's fields is the valid one, here and below.
                sys::VIR_TYPED_PARAM_INT => u64::try_from(unsafe { param.value.i }).ok(),
                // SAFETY: as above.
                sys::VIR_TYPED_PARAM_UINT => Some(u64::from(unsafe { param.value.ui })),
                // SAFETY: as above.
                sys::VIR_TYPED_PARAM_LLONG => u64::try_from(unsafe { param.value.l }).ok(),
                // SAFETY: as above.
                sys::VIR_TYPED_PARAM_ULLONG => Some(unsafe { param.value.ul }),
                sys::VIR_TYPED_PARAM_STRING => {
                    // SAFETY: as above; a text is null or ends with a zero byte.
                    if let Some(text) = unsafe { text(param.value.s) } {
                        copied.texts.insert(name, text);
                    }
                    continue;
                }
                _ => None,
            };
            if let Some(number) = number {
                copied.numbers.insert(name, number);
            }
        }
        copied
    }

    /// A number; absent too when it is negative.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// How many entries a list has, up to `most`.
    pub fn count(&self, name: &str, most: u64) -> u64 {
        self.number(name).unwrap_or_default().min(most)
    }
}

/// # Safety
/// `text` is null or points to bytes that end with a zero.
unsafe fn text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: see the contract of this function.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    let cut = &bytes[..bytes.len().min(TEXT_BYTES)];
    Some(String::from_utf8_lossy(cut).into_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    fn param(name: &str, kind: u32, value: sys::_virTypedParameterValue) -> sys::virTypedParameter {
        let mut field = [0; 80];
        for (place, byte) in field.iter_mut().zip(name.bytes()) {
            *place = byte.cast_signed();
        }
        sys::virTypedParameter {
            field,
            type_: kind.cast_signed(),
            value,
        }
    }

    #[test]
    fn values_are_found_by_name_and_texts_are_cut() {
        let long = CString::new(vec![b'x'; 1 << 20]).unwrap();
        let mut params = [
            param(
                "cpu.time",
                sys::VIR_TYPED_PARAM_ULLONG,
                sys::_virTypedParameterValue { ul: 7 },
            ),
            param(
                "minus",
                sys::VIR_TYPED_PARAM_INT,
                sys::_virTypedParameterValue { i: -1 },
            ),
            param(
                "fs.count",
                sys::VIR_TYPED_PARAM_UINT,
                sys::_virTypedParameterValue { ui: 1_000_000 },
            ),
            param(
                "name",
                sys::VIR_TYPED_PARAM_STRING,
                sys::_virTypedParameterValue {
                    s: long.as_ptr().cast_mut(),
                },
            ),
            param(
                "none",
                sys::VIR_TYPED_PARAM_STRING,
                sys::_virTypedParameterValue {
                    s: std::ptr::null_mut(),
                },
            ),
        ];
        // SAFETY: five valid parameters.
        let copied = unsafe { Params::copy(params.as_mut_ptr(), 5) };
        assert_eq!((copied.number("cpu.time"), copied.number("minus")), (Some(7), None));
        assert_eq!(copied.count("fs.count", 16), 16);
        assert_eq!(copied.text("name").map(str::len), Some(TEXT_BYTES));
        assert_eq!(copied.text("none"), None);
        // SAFETY: no parameters.
        let none = unsafe { Params::copy(std::ptr::null_mut(), 0) };
        assert_eq!(none.number("cpu.time"), None);
    }
}

//! Which extra specs of a Flavor are the scheduler's business, and what they say.

use std::collections::BTreeMap;

use crate::Request;

/// What is wrong with an extra spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtraSpecError {
    /// Not an amount.
    #[error("reading the extra spec {key}: {value:?} is not a whole number of units")]
    Amount {
        /// The key.
        key: String,
        /// What it says.
        value: String,
    },
    /// Not a name of a resource class or trait.
    #[error("reading the extra spec {key}: {name:?} is not a name of capitals, digits and underscores")]
    Name {
        /// The key.
        key: String,
        /// The name.
        name: String,
    },
    /// Neither required nor forbidden.
    #[error("reading the extra spec {key}: {value:?} is neither required nor forbidden")]
    Trait {
        /// The key.
        key: String,
        /// What it says.
        value: String,
    },
    /// A capability that no host has.
    #[error("reading the extra spec {key}: a host has no such capability")]
    Capability {
        /// The key.
        key: String,
    },
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Request {
    /// Takes over what extra specs say to the scheduler: `resources:CLASS`, `trait:NAME`,
    /// `aggregate_instance_extra_specs:KEY`, `capabilities:PATH` and keys without a scope. Others are somebody else's
    /// business and left alone. Returns all that is wrong; what is right is taken over all the same.
    ///
    /// `resources:VCPU`, `MEMORY_MB` and `DISK_GB` replace what the Flavor itself asks for, as in Nova; so these are to be
    /// added after [`resources`](Self::resources) is filled in.
    pub fn add_extra_specs(&mut self, specs: &BTreeMap<String, String>) -> Vec<ExtraSpecError> {
        let mut errors = Vec::new();
        for (key, value) in specs {
            let taken = match key.split_once(':') {
                None => {
                    self.demands_mut().unscoped.insert(key.clone(), value.clone());
                    Ok(())
                }
                Some(("resources", class)) => self.add_resource(key, class, value),
                Some(("trait", name)) => self.add_trait(key, name, value),
                Some(("aggregate_instance_extra_specs", rest)) => {
                    self.demands_mut()
                        .aggregate_specs
                        .insert(rest.to_owned(), value.clone());
                    Ok(())
                }
                Some(("capabilities", path)) => self.add_capability(key, path, value),
                // Nova turns this one into a capability too.
                Some(("hw", "maxphysaddr_bits")) => {
                    self.add_capability(key, "cpu_info:maxphysaddr:bits", &format!(">= {value}"))
                }
                Some(_) => Ok(()),
            };
            errors.extend(taken.err());
        }
        errors
    }

    fn add_resource(&mut self, key: &str, class: &str, value: &str) -> Result<(), ExtraSpecError> {
        check_name(key, class)?;
        let refused = || ExtraSpecError::Amount {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let amount: u64 = if digits {
            value.parse().map_err(|_| refused())?
        } else {
            return Err(refused());
        };
        match class {
            "VCPU" => self.resources.vcpus = amount.try_into().map_err(|_| refused())?,
            "MEMORY_MB" => self.resources.memory_bytes = amount.checked_mul(MIB).ok_or_else(refused)?,
            "DISK_GB" => self.resources.disk_bytes = amount.checked_mul(GIB).ok_or_else(refused)?,
            _ if amount == 0 => {}
            _ => {
                self.demands_mut().resources.insert(class.to_owned(), amount);
            }
        }
        Ok(())
    }

    fn add_trait(&mut self, key: &str, name: &str, value: &str) -> Result<(), ExtraSpecError> {
        check_name(key, name)?;
        match value {
            "required" => self.demands_mut().required_traits.insert(name.to_owned()),
            "forbidden" => self.demands_mut().forbidden_traits.insert(name.to_owned()),
            _ => {
                return Err(ExtraSpecError::Trait {
                    key: key.to_owned(),
                    value: value.to_owned(),
                });
            }
        };
        Ok(())
    }

    fn add_capability(&mut self, key: &str, path: &str, value: &str) -> Result<(), ExtraSpecError> {
        let parts: Vec<&str> = path.split(':').collect();
        if crate::Attribute::find(&parts).is_none() {
            return Err(ExtraSpecError::Capability { key: key.to_owned() });
        }
        self.demands_mut()
            .capabilities
            .insert(path.to_owned(), value.to_owned());
        Ok(())
    }
}

fn check_name(key: &str, name: &str) -> Result<(), ExtraSpecError> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.len() <= 255 && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(ExtraSpecError::Name {
        key: key.to_owned(),
        name: name.chars().take(64).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::request;

    fn specs(specs: &[(&str, &str)]) -> BTreeMap<String, String> {
        specs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn each_scope_goes_where_it_is_read_and_others_are_left_alone() {
        let mut request = request();
        let errors = request.add_extra_specs(&specs(&[
            ("resources:CUSTOM_LICENCE", "2"),
            ("resources:VCPU", "7"),
            ("resources:MEMORY_MB", "512"),
            ("resources:DISK_GB", "0"),
            ("trait:CUSTOM_SSD", "required"),
            ("trait:CUSTOM_OLD", "forbidden"),
            ("aggregate_instance_extra_specs:ssd", "true"),
            ("capabilities:cpu_info:model", "s== EPYC"),
            ("hw:maxphysaddr_bits", "46"),
            ("pinned", "yes"),
            ("quota:disk_total_iops_sec", "2000"),
        ]));
        assert_eq!(errors, []);
        assert_eq!(
            (
                request.resources.vcpus,
                request.resources.memory_bytes,
                request.resources.disk_bytes
            ),
            (7, 512 * MIB, 0)
        );
        let demands = request.demands.unwrap();
        assert_eq!(demands.resources, BTreeMap::from([("CUSTOM_LICENCE".to_owned(), 2)]));
        assert!(demands.required_traits.contains("CUSTOM_SSD") && demands.forbidden_traits.contains("CUSTOM_OLD"));
        assert_eq!(demands.aggregate_specs, specs(&[("ssd", "true")]));
        assert_eq!(
            demands.capabilities,
            specs(&[("cpu_info:model", "s== EPYC"), ("cpu_info:maxphysaddr:bits", ">= 46")])
        );
        assert_eq!(demands.unscoped, specs(&[("pinned", "yes")]));
    }

    #[test]
    fn a_plain_flavor_makes_no_demands() {
        let mut request = request();
        assert_eq!(request.add_extra_specs(&specs(&[("hw:cpu_policy", "shared")])), []);
        assert_eq!(request.demands, None);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let errors = request().add_extra_specs(&specs(&[
            ("capabilities:secrets", "1"),
            ("resources:VCPU", "-1"),
            ("resources:custom", "1"),
            ("resources:MEMORY_MB", "18446744073709551615"),
            ("trait:HW_AVX", "yes"),
        ]));
        let keys: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(keys.len(), 5, "{keys:#?}");
    }
}

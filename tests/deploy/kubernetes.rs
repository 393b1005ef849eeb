//! The manifests are what Kubernetes knows, fit each other, and say what the program understands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use ipam::config::Options;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, PodSpec, PodTemplateSpec, Probe, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{read, repository, stop_takes_at_most};

const FOLDERS: [&str; 3] = ["base", "mongodb", "embedded"];

/// As much of one as is used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    api_version: String,
    kind: String,
    resources: Vec<String>,
    #[serde(default)]
    secret_generator: Vec<SecretGenerator>,
    #[serde(default)]
    images: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretGenerator {
    name: String,
    envs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Image {
    name: String,
    new_tag: String,
}

fn text(path: &str) -> String {
    read(repository("deploy/kubernetes").join(path))
}

fn parse<T: DeserializeOwned>(path: &str) -> T {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn kustomization(folder: &str) -> Kustomization {
    parse(&format!("{folder}/kustomization.yaml"))
}

/// The files with resources, as `FOLDER/NAME`.
fn manifests() -> Vec<String> {
    let in_folder = |folder: &&str| {
        let folder = (*folder).to_owned();
        let files = std::fs::read_dir(repository("deploy/kubernetes").join(&folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml");
        names.map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
    };
    FOLDERS.iter().flat_map(in_folder).collect()
}

/// What becomes of a manifest that is read as `T` and written again.
fn through<T: DeserializeOwned + Serialize>(path: &str) -> Value {
    serde_json::to_value(parse::<T>(path)).unwrap()
}

/// Where `given` says something that `kept` does not.
fn lost(given: &Value, kept: &Value, place: &str, found: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                let place = format!("{place}.{name}");
                match kept.get(name) {
                    Some(kept) => lost(value, kept, &place, found),
                    None => found.push(place),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                lost(given, kept, &format!("{place}[{index}]"), found);
            }
        }
        _ if given == kept => {}
        _ => found.push(place.to_owned()),
    }
}

#[test]
fn kubernetes_knows_every_field() {
    let manifests = manifests();
    assert_eq!(manifests.len(), 6, "{manifests:?}");
    for path in manifests {
        let given: Value = parse(&path);
        let kept = match given["kind"].as_str().unwrap() {
            "Deployment" => through::<Deployment>(&path),
            "StatefulSet" => through::<StatefulSet>(&path),
            "Service" => through::<Service>(&path),
            "ServiceAccount" => through::<ServiceAccount>(&path),
            "NetworkPolicy" => through::<NetworkPolicy>(&path),
            "PodDisruptionBudget" => through::<PodDisruptionBudget>(&path),
            other => panic!("{path}: no test knows a {other}"),
        };
        let mut found = Vec::new();
        lost(&given, &kept, "", &mut found);
        assert!(found.is_empty(), "{path}: Kubernetes knows nothing of {found:?}");
    }
}

#[test]
fn a_misspelt_field_would_be_found() {
    let given: Value = parse("mongodb/deployment.yaml");
    let mut kept = through::<Deployment>("mongodb/deployment.yaml");
    let container = kept.pointer_mut("/spec/template/spec/containers/0").unwrap();
    container.as_object_mut().unwrap().remove("livenessProbe");
    let mut found = Vec::new();
    lost(&given, &kept, "", &mut found);
    assert_eq!(found, [".spec.template.spec.containers[0].livenessProbe"]);
}

#[test]
fn each_kustomization_names_what_is_beside_it() {
    for folder in FOLDERS {
        let found = kustomization(folder);
        assert_eq!(found.api_version, "kustomize.config.k8s.io/v1beta1");
        assert_eq!(found.kind, "Kustomization");
        let named: BTreeSet<String> =
            found.resources.iter().map(|name| format!("{folder}/{name}")).collect();
        let mut there: BTreeSet<String> =
            manifests().into_iter().filter(|path| Path::new(path).starts_with(folder)).collect();
        if folder != "base" {
            there.insert(format!("{folder}/../base"));
            let [image] = &found.images[..] else { panic!("{folder}: one image") };
            assert_eq!(
                (image.name.as_str(), image.new_tag.as_str()),
                ("ipam", env!("CARGO_PKG_VERSION"))
            );
        }
        assert_eq!(named, there);
    }
}

/// A Deployment or a StatefulSet.
struct Workload {
    path: &'static str,
    selector: LabelSelector,
    template: PodTemplateSpec,
}

impl Workload {
    fn all() -> [Self; 2] {
        let deployment = parse::<Deployment>("mongodb/deployment.yaml").spec.unwrap();
        let stateful = parse::<StatefulSet>("embedded/statefulset.yaml").spec.unwrap();
        [
            Self {
                path: "mongodb/deployment.yaml",
                selector: deployment.selector,
                template: deployment.template,
            },
            Self {
                path: "embedded/statefulset.yaml",
                selector: stateful.selector,
                template: stateful.template,
            },
        ]
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.template.metadata.clone().unwrap().labels.unwrap()
    }

    fn pod(&self) -> &PodSpec {
        self.template.spec.as_ref().unwrap()
    }

    fn container(&self) -> &Container {
        let [container] = &self.pod().containers[..] else {
            panic!("{}: one container", self.path)
        };
        container
    }

    fn environment(&self) -> &[EnvVar] {
        self.container().env.as_deref().unwrap()
    }

    fn has_port(&self, name: &str) -> bool {
        let ports = self.container().ports.as_ref().unwrap();
        ports.iter().any(|port| port.name.as_deref() == Some(name))
    }
}

#[test]
fn selectors_select_the_pods() {
    let service = parse::<Service>("base/service.yaml").spec.unwrap();
    let budget = parse::<PodDisruptionBudget>("mongodb/poddisruptionbudget.yaml").spec.unwrap();
    let policy = parse::<NetworkPolicy>("base/networkpolicy.yaml").spec.unwrap();
    let account = parse::<ServiceAccount>("base/serviceaccount.yaml").metadata.name;
    for workload in Workload::all() {
        let labels = workload.labels();
        let of = |selector: &LabelSelector| selector.match_labels.clone().unwrap();
        assert_eq!(of(&workload.selector), labels);
        assert_eq!(service.selector, Some(labels.clone()));
        assert_eq!(of(policy.pod_selector.as_ref().unwrap()), labels);
        for spread in workload.pod().topology_spread_constraints.iter().flatten() {
            assert_eq!(of(spread.label_selector.as_ref().unwrap()), labels);
        }
        for port in service.ports.as_ref().unwrap() {
            let Some(IntOrString::String(name)) = &port.target_port else { panic!("it is named") };
            assert!(workload.has_port(name), "{}: no port {name}", workload.path);
        }
        assert_eq!(workload.pod().service_account_name, account);
    }
    let [deployment, _] = Workload::all();
    assert_eq!(budget.selector.unwrap().match_labels, Some(deployment.labels()));
    let stateful = parse::<StatefulSet>("embedded/statefulset.yaml").spec.unwrap();
    assert_eq!(stateful.service_name, parse::<Service>("base/service.yaml").metadata.name);
    let claims = stateful.volume_claim_templates.unwrap();
    let claims: Vec<_> = claims.iter().map(|claim| claim.metadata.name.clone().unwrap()).collect();
    let mounts = stateful.template.spec.unwrap().containers[0].volume_mounts.clone().unwrap();
    assert_eq!(mounts.iter().map(|mount| mount.name.clone()).collect::<Vec<_>>(), claims);
}

#[test]
fn probes_ask_what_the_api_serves() {
    let routes: BTreeSet<&str> = ipam::api::routes().map(|(_, path)| path).collect();
    for workload in Workload::all() {
        let container = workload.container();
        let path = |probe: &Option<Probe>| {
            let asked = probe.as_ref().unwrap().http_get.clone().unwrap();
            let IntOrString::String(port) = asked.port else { panic!("the port is named") };
            assert!(workload.has_port(&port), "{}: no port {port}", workload.path);
            let path = asked.path.unwrap();
            assert!(routes.contains(path.as_str()), "{}: there is no {path}", workload.path);
            path
        };
        assert_eq!(path(&container.startup_probe), "/health/live");
        assert_eq!(path(&container.liveness_probe), "/health/live");
        assert_eq!(path(&container.readiness_probe), "/health/ready");
    }
}

/// The variables that `ipam serve` reads.
fn variables() -> BTreeSet<String> {
    let serve = Options::augment_args(clap::Command::new("serve"));
    let named = serve.get_arguments().filter_map(|flag| flag.get_env());
    named.map(|name| name.to_str().unwrap().to_owned()).collect()
}

#[test]
fn the_environment_is_what_the_program_reads() {
    let known = variables();
    assert!(known.contains("IPAM_LISTEN"), "{known:?}");
    for workload in Workload::all() {
        for variable in workload.environment() {
            assert!(known.contains(&variable.name), "{}: {}", workload.path, variable.name);
        }
        let listen = workload.environment().iter().find(|found| found.name == "IPAM_LISTEN");
        let listen: std::net::SocketAddr = listen.unwrap().value.as_ref().unwrap().parse().unwrap();
        assert!(listen.ip().is_unspecified());
        let port = workload.container().ports.as_ref().unwrap()[0].container_port;
        assert_eq!(i32::from(listen.port()), port);
        // Kubernetes would set others of that beginning for a Service of a fitting name.
        assert_eq!(workload.pod().enable_service_links, Some(false));
    }
}

/// The keys of a file of variables, with whether each is set or only shown.
fn keys_of_example() -> BTreeMap<String, bool> {
    let example = text("mongodb/secret.env.example");
    let lines = example.lines().filter_map(|line| Some((line, line.split_once('=')?.0)));
    let keys = lines.filter(|(_, key)| !key.contains(' '));
    keys.map(|(line, key)| (key.trim_start_matches('#').to_owned(), !line.starts_with('#')))
        .collect()
}

#[test]
fn the_secret_has_what_the_deployment_reads() {
    let found = kustomization("mongodb");
    let [generator] = &found.secret_generator[..] else { panic!("one secret") };
    assert_eq!(generator.envs, ["secret.env"]);
    assert_eq!(text("mongodb/.gitignore").lines().last(), Some("/secret.env"));
    let [deployment, _] = Workload::all();
    let mut read = BTreeMap::new();
    for variable in deployment.environment() {
        let Some(key) = variable.value_from.clone().and_then(|from| from.secret_key_ref) else {
            continue;
        };
        assert_eq!((&key.name, &key.key), (&generator.name, &variable.name));
        read.insert(key.key, !key.optional.unwrap_or_default());
    }
    assert_eq!(read, keys_of_example());
    assert_eq!(read.get("IPAM_MONGO"), Some(&true));
}

#[test]
fn a_stop_has_the_time_that_it_takes() {
    for workload in Workload::all() {
        let hook = workload.container().lifecycle.clone().unwrap().pre_stop.unwrap();
        let slept = Duration::from_secs(hook.sleep.unwrap().seconds.try_into().unwrap());
        let given = workload.pod().termination_grace_period_seconds.unwrap();
        let given = Duration::from_secs(given.try_into().unwrap());
        assert!(slept + stop_takes_at_most() < given, "{}: {given:?}", workload.path);
    }
}

#[test]
fn a_pod_has_the_rights_it_needs_and_no_others() {
    let [mut deployment, mut stateful] = Workload::all().map(|found| found.container().clone());
    for workload in Workload::all() {
        let pod = workload.pod().security_context.clone().unwrap();
        assert_eq!(pod.run_as_non_root, Some(true));
        assert_ne!(pod.run_as_user, Some(0));
        assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
        assert_eq!(workload.pod().automount_service_account_token, Some(false));
        let own = workload.container().security_context.clone().unwrap();
        assert_eq!(own.read_only_root_filesystem, Some(true));
        assert_eq!(own.allow_privilege_escalation, Some(false));
        assert_eq!(own.privileged, None);
        let capabilities = own.capabilities.unwrap();
        assert_eq!((capabilities.add, capabilities.drop), (None, Some(vec!["ALL".to_owned()])));
        assert!(workload.container().resources.clone().unwrap().limits.is_some());
    }
    // They differ in where the data is and in nothing else.
    for container in [&mut deployment, &mut stateful] {
        container.env = None;
        container.volume_mounts = None;
    }
    assert_eq!(deployment, stateful);
}

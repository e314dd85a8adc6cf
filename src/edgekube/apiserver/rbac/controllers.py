"""The rules of the controllers' ServiceAccounts (bootstrappolicy/controller_policy.go in Kubernetes), by account."""

CONTROLLERS = {
    "attachdetach-controller": """
list,watch core persistentvolumeclaims,persistentvolumes
READ core nodes
patch,update core nodes/status
list,watch core pods
create,delete,get,list,watch storage.k8s.io volumeattachments
READ storage.k8s.io csidrivers,csinodes
EVENTS core+events.k8s.io events
""",
    "clusterrole-aggregation-controller": "escalate,get,list,patch,update,watch rbac.authorization.k8s.io clusterroles",
    "cronjob-controller": """
get,list,update,watch batch cronjobs
create,delete,get,list,patch,update,watch batch jobs
update batch cronjobs/status
update batch cronjobs/finalizers
delete,list core pods
EVENTS core+events.k8s.io events
""",
    "daemon-set-controller": """
READ apps daemonsets
update apps daemonsets/status
update apps daemonsets/finalizers
list,watch core nodes
create,delete,list,patch,watch core pods
create core pods/binding
create,delete,get,list,patch,update,watch apps controllerrevisions
EVENTS core+events.k8s.io events
""",
    "deployment-controller": """
get,list,update,watch apps deployments
update apps deployments/status
update apps deployments/finalizers
create,delete,get,list,patch,update,watch apps replicasets
get,list,update,watch core pods
EVENTS core+events.k8s.io events
""",
    "disruption-controller": """
READ apps deployments
READ apps replicasets
READ core replicationcontrollers
READ policy poddisruptionbudgets
READ apps statefulsets
update policy poddisruptionbudgets/status
get,list,watch core pods
patch,update core pods/status
get * */scale
EVENTS core+events.k8s.io events
""",
    "endpoint-controller": """
READ core pods,services
create,delete,get,list,update core endpoints
create core endpoints/restricted
EVENTS core+events.k8s.io events
""",
    "endpointslice-controller": """
READ core nodes,pods,services
update core services/finalizers
create,delete,get,list,update discovery.k8s.io endpointslices
create discovery.k8s.io endpointslices/restricted
EVENTS core+events.k8s.io events
""",
    "endpointslicemirroring-controller": """
READ core endpoints,services
update core services/finalizers
update core endpoints/finalizers
create,delete,get,list,update discovery.k8s.io endpointslices
create discovery.k8s.io endpointslices/restricted
EVENTS core+events.k8s.io events
""",
    "ephemeral-volume-controller": """
update core pods/finalizers
READ core pods
create,get,list,watch core persistentvolumeclaims
EVENTS core+events.k8s.io events
""",
    "expand-controller": """
get,list,patch,update,watch core persistentvolumes
patch,update core persistentvolumeclaims/status
READ core persistentvolumeclaims
READ storage.k8s.io storageclasses
EVENTS core+events.k8s.io events
""",
    "generic-garbage-collector": "delete,get,list,patch,update,watch * *",
    "horizontal-pod-autoscaler": """
READ autoscaling horizontalpodautoscalers
update autoscaling horizontalpodautoscalers/status
get,update * */scale
list core pods
list metrics.k8s.io pods
get,list custom.metrics.k8s.io *
get,list external.metrics.k8s.io *
EVENTS core+events.k8s.io events
""",
    "job-controller": """
get,list,patch,update,watch batch jobs
update batch jobs/status
update batch jobs/finalizers
create,delete,list,patch,watch core pods
EVENTS core+events.k8s.io events
""",
    "namespace-controller": """
delete,get,list,watch core namespaces
update core namespaces/finalize,namespaces/status
delete,deletecollection,get,list * *
""",
    "node-controller": """
delete,get,list,patch,update,watch core nodes
patch,update core nodes/status
patch,update core pods/status
delete,get,list,watch core pods
get,list,watch networking.k8s.io clustercidrs
EVENTS core+events.k8s.io events
""",
    "persistent-volume-binder": """
create,delete,get,list,update,watch core persistentvolumes
update core persistentvolumes/status
get,list,update,watch core persistentvolumeclaims
update core persistentvolumeclaims/status
create,delete,get,list,watch core pods
READ storage.k8s.io storageclasses
create,delete,get core endpoints,services
get,list core secrets
READ core nodes
EVENTS core+events.k8s.io events
""",
    "pod-garbage-collector": """
delete,list,watch core pods
get,list core nodes
patch core pods/status
""",
    "pv-protection-controller": """
get,list,update,watch core persistentvolumes
EVENTS core+events.k8s.io events
""",
    "pvc-protection-controller": """
get,list,update,watch core persistentvolumeclaims
READ core pods
EVENTS core+events.k8s.io events
""",
    "replicaset-controller": """
get,list,update,watch apps replicasets
update apps replicasets/status
update apps replicasets/finalizers
create,delete,list,patch,watch core pods
EVENTS core+events.k8s.io events
""",
    "replication-controller": """
get,list,update,watch core replicationcontrollers
update core replicationcontrollers/status
update core replicationcontrollers/finalizers
create,delete,list,patch,watch core pods
EVENTS core+events.k8s.io events
""",
    "resourcequota-controller": """
list,watch * *
update core resourcequotas/status
EVENTS core+events.k8s.io events
""",
    "root-ca-cert-publisher": """
create,update core configmaps
EVENTS core+events.k8s.io events
""",
    "route-controller": """
list,watch core nodes
patch core nodes/status
EVENTS core+events.k8s.io events
""",
    "service-account-controller": """
create core serviceaccounts
EVENTS core+events.k8s.io events
""",
    "service-cidrs-controller": """
get,list,patch,update,watch networking.k8s.io servicecidrs
patch,update networking.k8s.io servicecidrs/finalizers
patch,update networking.k8s.io servicecidrs/status
READ networking.k8s.io ipaddresses
EVENTS core+events.k8s.io events
""",
    "service-controller": """
READ core services
patch,update core services/status
list,watch core nodes
EVENTS core+events.k8s.io events
""",
    "statefulset-controller": """
list,watch core pods
READ apps statefulsets
update apps statefulsets/status
update apps statefulsets/finalizers
create,delete,get,patch,update core pods
create,delete,get,list,patch,update,watch apps controllerrevisions
create,get core persistentvolumeclaims
delete,update core persistentvolumeclaims
list,watch core persistentvolumeclaims
EVENTS core+events.k8s.io events
""",
    "ttl-controller": """
list,patch,update,watch core nodes
EVENTS core+events.k8s.io events
""",
    "ttl-after-finished-controller": """
delete,get,list,watch batch jobs
EVENTS core+events.k8s.io events
""",
    "validatingadmissionpolicy-status-controller": """
READ admissionregistration.k8s.io validatingadmissionpolicies
get,patch,update admissionregistration.k8s.io validatingadmissionpolicies/status
EVENTS core+events.k8s.io events
""",
    "certificate-controller": """
delete,get,list,watch certificates.k8s.io certificatesigningrequests
update certificates.k8s.io certificatesigningrequests/approval,certificatesigningrequests/status
approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet
sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client,kubernetes.io/kube-apiserver-client-kubelet,kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown
create authorization.k8s.io subjectaccessreviews
EVENTS core+events.k8s.io events
""",
    "legacy-service-account-token-cleaner": """
get core configmaps kube-apiserver-legacy-service-account-token-tracking
delete,patch core secrets
""",
}  # fmt: skip

"""The rules of the roles for parts of a cluster (bootstrappolicy/policy.go in Kubernetes), by role."""

COMPONENTS = {
    "cluster-admin": "* * *\n* *",
    "system:discovery": "get /api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/",
    "system:public-info-viewer": "get /healthz,/livez,/readyz,/version,/version/",
    "system:monitoring": "get /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*",
    "system:basic-user": """
create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews
create authentication.k8s.io selfsubjectreviews
""",
    "system:service-account-issuer-discovery": "get /.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/",
    "system:heapster": """
READ core events,namespaces,nodes,pods
get core nodes/stats
READ apps deployments
""",
    "system:node": """
create authentication.k8s.io tokenreviews
create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews
READ core services
create,get,list,watch core nodes
patch,update core nodes/status
patch,update core nodes
EVENTS core events
READ core pods
create,delete core pods
patch,update core pods/status
create core pods/eviction
READ core configmaps,secrets
get core persistentvolumeclaims,persistentvolumes
get core endpoints
create,get,list,watch certificates.k8s.io certificatesigningrequests
create,delete,get,patch,update coordination.k8s.io leases
get storage.k8s.io volumeattachments
create core serviceaccounts/token
get core serviceaccounts
get,patch,update core persistentvolumeclaims/status
READ storage.k8s.io csidrivers
create,delete,get,patch,update storage.k8s.io csinodes
READ node.k8s.io runtimeclasses
""",
    "system:node-problem-detector": """
get core nodes
patch core nodes/status
EVENTS core+events.k8s.io events
""",
    "system:kubelet-api-admin": """
get,list,watch,proxy core nodes
* core nodes/log,nodes/metrics,nodes/proxy,nodes/stats,nodes/configz,nodes/healthz,nodes/pods
""",
    "system:node-bootstrapper": "create,get,list,watch certificates.k8s.io certificatesigningrequests",
    "system:auth-delegator": """
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
""",
    "system:kube-aggregator": "READ core endpoints,services",
    "system:kube-controller-manager": """
EVENTS core+events.k8s.io events
create coordination.k8s.io leases
get,update coordination.k8s.io leases kube-controller-manager
create core secrets,serviceaccounts
delete core secrets
get core configmaps,namespaces,secrets,serviceaccounts
update core secrets,serviceaccounts
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
list,watch * *
create core serviceaccounts/token
""",
    "system:kube-dns": "list,watch core endpoints,services",
    "system:coredns": """
list,watch core endpoints,namespaces,pods,services
list,watch discovery.k8s.io endpointslices
""",
    "system:persistent-volume-provisioner": """
create,delete,get,list,watch core persistentvolumes
get,list,update,watch core persistentvolumeclaims
READ storage.k8s.io storageclasses
watch core events
EVENTS core+events.k8s.io events
""",
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": "create certificates.k8s.io certificatesigningrequests/nodeclient",
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": "create certificates.k8s.io certificatesigningrequests/selfnodeclient",
    "system:certificates.k8s.io:legacy-unknown-approver": "approve certificates.k8s.io signers kubernetes.io/legacy-unknown",
    "system:certificates.k8s.io:kubelet-serving-approver": "approve certificates.k8s.io signers kubernetes.io/kubelet-serving",
    "system:certificates.k8s.io:kube-apiserver-client-approver": "approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client",
    "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver": "approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet",
    "system:kube-scheduler": """
EVENTS core+events.k8s.io events
create coordination.k8s.io leases
get,list,update,watch coordination.k8s.io leases kube-scheduler
READ core nodes
delete,get,list,watch core pods
create core bindings,pods/binding
patch,update core pods/status
READ core replicationcontrollers,services
READ apps replicasets,statefulsets
READ policy poddisruptionbudgets
get,list,patch,update,watch core persistentvolumeclaims,persistentvolumes
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
READ storage.k8s.io csidrivers,csinodes,csistoragecapacities,storageclasses,volumeattachments
READ core namespaces
""",
    "system:volume-scheduler": """
get,list,patch,update,watch core persistentvolumes
READ storage.k8s.io storageclasses
get,list,patch,update,watch core persistentvolumeclaims
""",
    "system:node-proxier": """
list,watch core endpoints,services
READ core nodes
EVENTS core+events.k8s.io events
list,watch discovery.k8s.io endpointslices
list,watch networking.k8s.io servicecidrs
""",
}
"""ClusterRoles."""

NAMED: dict[tuple[str, str], str] = {
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
    ): "READ core configmaps extension-apiserver-authentication",
    ("kube-system", "system:controller:bootstrap-signer"): "READ core secrets",
    ("kube-system", "system:controller:cloud-provider"): "create,get,list,watch core configmaps",
    (
        "kube-system",
        "system:controller:token-cleaner",
    ): "delete,get,list,watch core secrets\nEVENTS core+events.k8s.io events",
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
    ): "watch core configmaps\nget,update core configmaps kube-controller-manager",
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
    ): "watch core configmaps\nget,update core configmaps kube-scheduler",
    (
        "kube-public",
        "system:controller:bootstrap-signer",
    ): "READ core configmaps\nupdate core configmaps cluster-info\nEVENTS core+events.k8s.io events",
}
"""Roles, by namespace and name."""

GROUP, USER, ACCOUNT = "Group", "User", "ServiceAccount"
BOUND: dict[str, tuple[tuple[str, str], ...]] = {
    "cluster-admin": ((GROUP, "system:masters"),),
    "system:monitoring": ((GROUP, "system:monitoring"),),
    "system:discovery": ((GROUP, "system:authenticated"),),
    "system:basic-user": ((GROUP, "system:authenticated"),),
    "system:public-info-viewer": ((GROUP, "system:authenticated"), (GROUP, "system:unauthenticated")),
    "system:node-proxier": ((USER, "system:kube-proxy"),),
    "system:kube-controller-manager": ((USER, "system:kube-controller-manager"),),
    "system:kube-dns": ((ACCOUNT, "kube-dns"),),
    "system:kube-scheduler": ((USER, "system:kube-scheduler"),),
    "system:volume-scheduler": ((USER, "system:kube-scheduler"),),
    "system:service-account-issuer-discovery": ((GROUP, "system:serviceaccounts"),),
    # Nodes have their rights from the Node authorizer, so nobody is bound to theirs.
    "system:node": (),
}
"""Who has the ClusterRoles; accounts are those of kube-system."""

NAMED_BOUND: dict[tuple[str, str, str], tuple[tuple[str, str], ...]] = {
    ("kube-system", "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader"): (
        (USER, "system:kube-controller-manager"), (USER, "system:kube-scheduler"),
    ),
    ("kube-system", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer"): ((ACCOUNT, "bootstrap-signer"),),
    ("kube-system", "system:controller:cloud-provider", "system:controller:cloud-provider"): ((ACCOUNT, "cloud-provider"),),
    ("kube-system", "system:controller:token-cleaner", "system:controller:token-cleaner"): ((ACCOUNT, "token-cleaner"),),
    ("kube-system", "system::leader-locking-kube-controller-manager", "system::leader-locking-kube-controller-manager"): (
        (USER, "system:kube-controller-manager"), (ACCOUNT, "kube-controller-manager"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler"): (
        (USER, "system:kube-scheduler"), (ACCOUNT, "kube-scheduler"),
    ),
    ("kube-public", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer"): ((ACCOUNT, "bootstrap-signer"),),
}  # fmt: skip
"""Who has the Roles, by namespace, binding and role."""

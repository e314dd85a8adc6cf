"""The audit log as the options of a server ask for it."""

from edgekube.apiserver.audit.auditor import Auditor
from edgekube.apiserver.audit.policy import EVERYTHING, BadPolicy, policy_of
from edgekube.apiserver.audit.sink import LogFile, Sink
from edgekube.app.options import ServerOptions


def auditor(options: ServerOptions) -> Auditor | None:
    """Return what notes requests, None without a log; raises BadPolicy, OSError."""
    if options.audit_log_path is None:
        return None
    policy = EVERYTHING
    if options.audit_policy_file is not None:
        import yaml  # noqa: PLC0415 - seldom asked for

        try:
            policy = policy_of(yaml.safe_load(options.audit_policy_file.read_text()))
        except yaml.YAMLError as error:
            raise BadPolicy(f"audit policy: {error}") from error
    file = LogFile(
        path=options.audit_log_path, size=options.audit_log_maxsize << 20, kept=options.audit_log_maxbackup
    )
    return Auditor(policy, Sink(file))

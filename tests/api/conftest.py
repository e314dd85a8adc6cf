from hypothesis import HealthCheck, settings

# A loaded machine must not fail a test that is merely slow.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

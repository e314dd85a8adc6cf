"""CronJob."""

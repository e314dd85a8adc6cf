"""HorizontalPodAutoscaler."""

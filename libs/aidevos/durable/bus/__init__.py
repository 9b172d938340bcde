"""The event bus: its port, the adapters for JetStream, RabbitMQ and memory, and following events."""

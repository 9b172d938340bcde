"""The event bus on RabbitMQ: its broker, messages, groups of consumers, and the bus itself."""

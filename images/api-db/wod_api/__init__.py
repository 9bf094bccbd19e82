"""The registration API of a Workshops-on-Demand site and its scheduler.

Who registers gets a seat; the scheduler orders it by mail from the backend that has it, tells the participant, and
takes it back. The interface is the one that existing portals and backends speak.
"""

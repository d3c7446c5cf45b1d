BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE batches (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	strategy VARCHAR(60) NOT NULL, 
	version_id VARCHAR(40), 
	items JSON NOT NULL, 
	closed_at DATETIME, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "batches" VALUES(1,1,'uncertainty',NULL,'[{"task_id": 1, "rank": 1}]',NULL,'2026-01-05 09:30:00.125000');
CREATE TABLE "champions" (
	project_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	version_id VARCHAR(40) NOT NULL, 
	previous_model_id INTEGER, 
	fence INTEGER NOT NULL, 
	pinned BOOLEAN NOT NULL, 
	changed_at DATETIME NOT NULL, 
	changed_by VARCHAR(200) NOT NULL, 
	challenger_id INTEGER, 
	challenger_since DATETIME, 
	PRIMARY KEY (project_id), 
	CONSTRAINT fk_champions_challenger_id FOREIGN KEY(challenger_id) REFERENCES models (id), 
	FOREIGN KEY(model_id) REFERENCES models (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(version_id) REFERENCES prediction_versions (id), 
	FOREIGN KEY(previous_model_id) REFERENCES models (id)
);
INSERT INTO "champions" VALUES(1,1,'ml-1-0123456789abcdef',NULL,3,0,'2026-01-05 09:30:00.125000','round 1',2,'2026-01-05 09:30:00.125000');
CREATE TABLE cursors (
	name VARCHAR(60) NOT NULL, 
	position INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "cursors" VALUES('alerts',1);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	project_id INTEGER, 
	kind VARCHAR(60) NOT NULL, 
	subject VARCHAR(200) NOT NULL, 
	data JSON NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,1,'round.opened','1','{"cause": "labels"}','2026-01-05 09:30:00.125000');
CREATE TABLE images (
	digest VARCHAR(64) NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	format VARCHAR(20) NOT NULL, 
	size INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, phash VARCHAR(16), thumbnail VARCHAR(512), 
	PRIMARY KEY (digest)
);
INSERT INTO "images" VALUES('0000000000000000000000000000000000000000000000000000000000000001',24,16,'PNG',101,'2026-01-05 09:30:00.125000',NULL,NULL);
INSERT INTO "images" VALUES('0000000000000000000000000000000000000000000000000000000000000002',24,16,'PNG',102,'2026-01-05 09:30:00.125000',NULL,NULL);
CREATE TABLE labels (
	id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	ls_annotation_id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	current BOOLEAN NOT NULL, 
	cancelled BOOLEAN NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	author VARCHAR(200), 
	lead_time DOUBLE, 
	parent_prediction INTEGER, 
	masks JSON NOT NULL, 
	error VARCHAR, 
	ls_updated_at DATETIME NOT NULL, 
	created_at DATETIME NOT NULL, known JSON, prompts JSON DEFAULT '{}' NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(task_id) REFERENCES tasks (id), 
	UNIQUE (task_id, ls_annotation_id, version)
);
INSERT INTO "labels" VALUES(1,1,31,1,0,0,0,NULL,NULL,NULL,'{}',NULL,'2026-01-05 09:30:00.125000','2026-01-05 09:30:00.125000',NULL,'{}');
INSERT INTO "labels" VALUES(2,1,31,2,1,0,0,'a@example.org',4.5,501,'{"Tumor": "000000000000000000000000000000000000000000000000000000000000000b"}',NULL,'2026-01-05 09:30:00.125000','2026-01-05 09:30:00.125000',NULL,'{"Tumor": {"text": "a tumor of the left breast", "source": "annotator"}}');
CREATE TABLE models (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	weights_digest VARCHAR(64) NOT NULL, 
	backbone VARCHAR(40) NOT NULL, 
	labels JSON NOT NULL, 
	snapshot_id INTEGER, 
	parent_id INTEGER, 
	config JSON NOT NULL, 
	metrics JSON NOT NULL, 
	created_at DATETIME NOT NULL, manifest_digest VARCHAR(64), pruned_at DATETIME, fault VARCHAR, 
	PRIMARY KEY (id), 
	FOREIGN KEY(parent_id) REFERENCES models (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(snapshot_id) REFERENCES snapshots (id)
);
INSERT INTO "models" VALUES(1,1,'000000000000000000000000000000000000000000000000000000000000001f','nano','["Tumor", "Cyst"]',1,NULL,'{"steps": 300}','{"temperature": 1.1}','2026-01-05 09:30:00.125000',NULL,NULL,NULL);
INSERT INTO "models" VALUES(2,1,'0000000000000000000000000000000000000000000000000000000000000020','nano','["Tumor", "Cyst"]',1,1,'{}','{}','2026-01-05 09:30:00.125000','0000000000000000000000000000000000000000000000000000000000000016',NULL,NULL);
CREATE TABLE prediction_versions (
	id VARCHAR(40) NOT NULL, 
	project_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	config JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(model_id) REFERENCES models (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "prediction_versions" VALUES('ml-1-0123456789abcdef',1,1,'{"samples": 30}','2026-01-05 09:30:00.125000');
CREATE TABLE "predictions" (
	id INTEGER NOT NULL, 
	version_id VARCHAR(40) NOT NULL, 
	image_digest VARCHAR(64) NOT NULL, 
	uncertainty DOUBLE, 
	error VARCHAR, 
	seconds DOUBLE NOT NULL, 
	created_at DATETIME NOT NULL, 
	prompt_digest VARCHAR(16) DEFAULT '' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_predictions_version_id UNIQUE (version_id, image_digest, prompt_digest), 
	FOREIGN KEY(version_id) REFERENCES prediction_versions (id), 
	FOREIGN KEY(image_digest) REFERENCES images (digest)
);
INSERT INTO "predictions" VALUES(1,'ml-1-0123456789abcdef','0000000000000000000000000000000000000000000000000000000000000001',0.25,NULL,0.5,'2026-01-05 09:30:00.125000','');
INSERT INTO "predictions" VALUES(2,'ml-1-0123456789abcdef','0000000000000000000000000000000000000000000000000000000000000002',NULL,'too large',0.0,'2026-01-05 09:30:00.125000','');
CREATE TABLE projects (
	id INTEGER NOT NULL, 
	ls_url VARCHAR(500) NOT NULL, 
	ls_id INTEGER NOT NULL, 
	title VARCHAR(300) NOT NULL, 
	label_config VARCHAR NOT NULL, 
	control JSON NOT NULL, 
	prompts JSON NOT NULL, 
	synced_at DATETIME, 
	checked_at DATETIME, 
	served_version VARCHAR(40), 
	previous_version VARCHAR(40), 
	switched_at DATETIME, 
	looked_at DATETIME, 
	sync_error VARCHAR, 
	created_at DATETIME NOT NULL, sheet_digest VARCHAR(16) DEFAULT '' NOT NULL, prompted_with VARCHAR(16) DEFAULT '' NOT NULL, grouping JSON DEFAULT '{}' NOT NULL, grouped_with VARCHAR(16) DEFAULT '' NOT NULL, blind_share DOUBLE DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (ls_url, ls_id)
);
INSERT INTO "projects" VALUES(1,'http://labels',7,'Brüste','<View/>','{"controls": [{"kind": "brush", "from_name": "tag", "to_name": "image", "data_key": "image", "labels": ["Tumor", "Cyst"]}], "prompt_tags": [], "labels": ["Tumor", "Cyst"]}','{"Tumor": "tumor", "Cyst": "cyst"}','2026-01-05 09:30:00.125000',NULL,'ml-1-0123456789abcdef',NULL,'2026-01-05 09:30:00.125000','2026-01-05 09:30:00.125000',NULL,'2026-01-05 09:30:00.125000','','','{"field": "patient"}','',0.1);
INSERT INTO "projects" VALUES(2,'http://labels',8,'not yet read','','{}','{}',NULL,NULL,NULL,NULL,NULL,NULL,'no token','2026-01-05 09:30:00.125000','','','{}','',0.0);
CREATE TABLE prompt_sets (
	digest VARCHAR(16) NOT NULL, 
	prompts JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (digest)
);
INSERT INTO "prompt_sets" VALUES('0123456789abcdef','{"Tumor": {"text": "a tumor of the left breast", "source": "annotator"}}','2026-01-05 09:30:00.125000');
CREATE TABLE pushes (
	ls_prediction_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	version_id VARCHAR(40) NOT NULL, 
	score DOUBLE, 
	gone_at DATETIME, 
	created_at DATETIME NOT NULL, stale VARCHAR(10) DEFAULT '' NOT NULL, stale_at DATETIME, 
	PRIMARY KEY (ls_prediction_id, project_id), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(task_id) REFERENCES tasks (id)
);
INSERT INTO "pushes" VALUES(501,1,1,'ml-1-0123456789abcdef',0.75,NULL,'2026-01-05 09:30:00.125000','',NULL);
CREATE TABLE "ranks" (
	id INTEGER NOT NULL, 
	version_id VARCHAR(40) NOT NULL, 
	image_digest VARCHAR(64) NOT NULL, 
	uncertainty DOUBLE NOT NULL, 
	aggregates JSON NOT NULL, 
	method VARCHAR(40) NOT NULL, 
	samples INTEGER NOT NULL, 
	seconds DOUBLE NOT NULL, 
	created_at DATETIME NOT NULL, 
	prompt_digest VARCHAR(16) DEFAULT '' NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_ranks_version_id UNIQUE (version_id, image_digest, prompt_digest), 
	FOREIGN KEY(version_id) REFERENCES prediction_versions (id), 
	FOREIGN KEY(image_digest) REFERENCES images (digest)
);
INSERT INTO "ranks" VALUES(1,'ml-1-0123456789abcdef','0000000000000000000000000000000000000000000000000000000000000001',0.3,'{"Tumor": {"predictive_entropy": {"mean": 0.25}}}','mean-value',1,0.0,'2026-01-05 09:30:00.125000','');
CREATE TABLE rounds (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	snapshot_id INTEGER NOT NULL, 
	cause VARCHAR(40) NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	attempts INTEGER NOT NULL, 
	failures INTEGER NOT NULL, 
	retry_at DATETIME, 
	model_id INTEGER, 
	progress JSON NOT NULL, 
	reason VARCHAR, 
	started_at DATETIME, 
	ended_at DATETIME, 
	created_at DATETIME NOT NULL, decision JSON DEFAULT '{}' NOT NULL, holder VARCHAR(200), held_until DATETIME, 
	PRIMARY KEY (id), 
	FOREIGN KEY(model_id) REFERENCES models (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(snapshot_id) REFERENCES snapshots (id)
);
INSERT INTO "rounds" VALUES(1,1,1,'labels','promoted',1,0,NULL,1,'{"step": 300, "steps": 300}',NULL,'2026-01-05 09:30:00.125000','2026-01-05 09:30:00.125000','2026-01-05 09:30:00.125000','{}',NULL,NULL);
INSERT INTO "rounds" VALUES(2,1,1,'cron','running',1,0,NULL,NULL,'{}',NULL,NULL,NULL,'2026-01-05 09:30:00.125000','{}',NULL,NULL);
CREATE TABLE scores (
	id INTEGER NOT NULL, 
	prediction_id INTEGER NOT NULL, 
	label VARCHAR(200) NOT NULL, 
	mask_digest VARCHAR(64) NOT NULL, 
	area INTEGER NOT NULL, 
	probability DOUBLE NOT NULL, 
	predictive_entropy DOUBLE NOT NULL, 
	expected_entropy DOUBLE NOT NULL, 
	mutual_information DOUBLE NOT NULL, 
	variance DOUBLE NOT NULL, 
	method VARCHAR(40) NOT NULL, 
	samples INTEGER NOT NULL, aggregates JSON DEFAULT '{}' NOT NULL, prompt VARCHAR DEFAULT '' NOT NULL, prompt_source VARCHAR(40) DEFAULT '' NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(prediction_id) REFERENCES predictions (id), 
	UNIQUE (prediction_id, label)
);
INSERT INTO "scores" VALUES(1,1,'Tumor','000000000000000000000000000000000000000000000000000000000000000c',70,0.8,0.25,0.2,0.05,0.01,'monte-carlo',30,'{"predictive_entropy": {"mean": 0.25}}','','');
CREATE TABLE snapshots (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	label_ids JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "snapshots" VALUES(1,1,'0000000000000000000000000000000000000000000000000000000000000015','[2]','2026-01-05 09:30:00.125000');
CREATE TABLE "tasks" (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	ls_id INTEGER NOT NULL, 
	url VARCHAR NOT NULL, 
	data JSON NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	error VARCHAR, 
	attempts INTEGER NOT NULL, 
	retry_at DATETIME, 
	image_digest VARCHAR(64), 
	deleted_at DATETIME, 
	ls_updated_at DATETIME, 
	created_at DATETIME NOT NULL, 
	part VARCHAR(200) DEFAULT '' NOT NULL, 
	sheet_prompts JSON DEFAULT '{}' NOT NULL, 
	typed_prompts JSON DEFAULT '{}' NOT NULL, 
	prompts JSON DEFAULT '{}' NOT NULL, 
	prompt_digest VARCHAR(16) DEFAULT '' NOT NULL, group_key VARCHAR(200) DEFAULT '' NOT NULL, blind BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_tasks_project_id UNIQUE (project_id, ls_id, part), 
	FOREIGN KEY(image_digest) REFERENCES images (digest), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);
INSERT INTO "tasks" VALUES(1,1,11,'/data/upload/1.png','{"image": "/data/upload/1.png"}','ready',NULL,0,NULL,'0000000000000000000000000000000000000000000000000000000000000001',NULL,'2026-01-05 09:30:00.125000','2026-01-05 09:30:00.125000','image','{}','{}','{}','','patient 1',0);
INSERT INTO "tasks" VALUES(2,1,12,'/data/upload/2.png','{"image": "/data/upload/2.png"}','ready',NULL,0,NULL,'0000000000000000000000000000000000000000000000000000000000000002',NULL,'2026-01-05 09:30:00.125000','2026-01-05 09:30:00.125000','image','{}','{}','{}','','patient 1',0);
INSERT INTO "tasks" VALUES(3,2,1,'','{}','failed','it is a text',2,NULL,NULL,NULL,NULL,'2026-01-05 09:30:00.125000','','{}','{}','{}','','',0);
CREATE TABLE train_requests (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	cause VARCHAR(40) NOT NULL, 
	round_id INTEGER, 
	refused VARCHAR, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(round_id) REFERENCES rounds (id)
);
INSERT INTO "train_requests" VALUES(1,1,'button',1,NULL,'2026-01-05 09:30:00.125000');
CREATE INDEX ix_events_project_id ON events (project_id);
CREATE INDEX ix_batches_project_id ON batches (project_id);
CREATE INDEX ix_snapshots_project_id ON snapshots (project_id);
CREATE INDEX ix_labels_current ON labels (task_id, current);
CREATE INDEX ix_models_project_id ON models (project_id);
CREATE INDEX ix_pushes_task ON pushes (task_id, version_id);
CREATE INDEX ix_prediction_versions_project_id ON prediction_versions (project_id);
CREATE INDEX ix_rounds_project_id ON rounds (project_id);
CREATE INDEX ix_train_requests_project_id ON train_requests (project_id);
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE INDEX ix_tasks_image_digest ON tasks (image_digest);
CREATE INDEX ix_tasks_state ON tasks (project_id, state);
CREATE UNIQUE INDEX ux_rounds_open ON rounds (project_id) WHERE state IN ('queued', 'running');
COMMIT;

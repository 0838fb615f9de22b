CREATE TABLE `charges` (
	`hold_id` text NOT NULL,
	`id` text NOT NULL,
	`micros` integer NOT NULL,
	`enlarged` integer NOT NULL,
	`at` integer NOT NULL,
	PRIMARY KEY(`hold_id`, `id`),
	FOREIGN KEY (`hold_id`) REFERENCES `holds`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE TABLE `slices` (
	`id` text PRIMARY KEY NOT NULL,
	`path` text NOT NULL,
	`session` text NOT NULL,
	`slug` text NOT NULL,
	`units` integer NOT NULL,
	`calls` integer NOT NULL,
	`day` integer NOT NULL,
	`granted_at` integer NOT NULL,
	`term_ms` integer NOT NULL
);
--> statement-breakpoint
ALTER TABLE `agents` ADD `tats` text;--> statement-breakpoint
ALTER TABLE `nodes` ADD `tats` text;--> statement-breakpoint
ALTER TABLE `user` ADD `tats` text;